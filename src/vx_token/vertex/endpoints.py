"""Deployed endpoints: their list, and the base URL and the settings that reach one of them.

Source: Google's discovery document for aiplatform v1, revision 20261106 (Endpoint, DeployedModel, ModelContainerSpec).
"""

import re
from dataclasses import dataclass, replace
from typing import Any, Self
from urllib.parse import urlsplit

from vx_token.config.vertex import UNIVERSE, Place
from vx_token.errors import VxTokenError, printable
from vx_token.vertex.lists import Account, pages, read

INVOKE = "/invoke/v1"
"""The OpenAI routes of a container behind an endpoint whose model has an `invokeRoutePrefix`."""

_RESOURCE = re.compile(r"projects/[^/\s?#]+/locations/([a-z0-9-]+)/(?:endpoints|models)/([A-Za-z0-9_-]+)")


@dataclass(frozen=True, slots=True)
class DeployedModel:
    """A model at an endpoint: the deployment's id, its display name and the model's resource name."""

    id: str
    name: str
    resource: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A deployed endpoint.

    Attributes:
        id: its id.
        location: its region.
        name: its display name.
        models: what is deployed at it; empty when nothing is served, because an endpoint has no other state.
        host: its dedicated DNS name, "" for an endpoint on the shared host.
        private: whether it is reached through Private Service Connect or a peered network only.
        invoke: whether its container's own routes are below `/invoke`.
    """

    id: str
    location: str
    name: str = ""
    models: tuple[DeployedModel, ...] = ()
    host: str = ""
    private: bool = False
    invoke: bool = False

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Self | None:
        """Return the endpoint that Google describes; None for anything else."""
        match = _RESOURCE.fullmatch(_text(document, "name"))
        if match is None:
            return None
        models = document.get("deployedModels")
        deployed = [each for each in models if isinstance(each, dict)] if isinstance(models, list) else []
        connect = document.get("privateServiceConnectConfig")
        private = isinstance(connect, dict) and connect.get("enablePrivateServiceConnect") is True
        return cls(
            match[2],
            match[1],
            printable(_text(document, "displayName")),
            tuple(map(_model, deployed)),
            _host(_text(document, "dedicatedEndpointDns")),
            private or bool(_text(document, "network")),
        )

    def url(self, place: Place) -> str:
        """Return its base URL for a profile at `place`; with the shared host for a private endpoint."""
        scheme = "https" if place.universe else urlsplit(place.root).scheme  # plain http only on loopback
        root = f"{scheme}://{self.host}" if self.host else place.root_of(self.location)
        route = INVOKE if self.invoke else ""
        return Place(root, place.version, place.project, self.location, self.id, route).url

    def settings(self, place: Place) -> dict[str, str | None]:
        """Return the settings of a profile that uses this endpoint; None removes one.

        `model` and `publisher` are removed, because an endpoint serves its own model only.
        """
        settings: dict[str, str | None] = {"model": None, "publisher": None}
        if place.universe == UNIVERSE and not self.host and not self.invoke:
            return settings | {"location": self.location, "endpoint": self.id, "base_url": None}
        return settings | {"location": self.location, "endpoint": self.id, "base_url": self.url(place)}


def _model(document: dict[str, Any]) -> DeployedModel:
    resource = _text(document, "model").partition("@")[0]  # without its version
    name = _text(document, "displayName") or resource.rpartition("/")[2]
    return DeployedModel(printable(_text(document, "id")), printable(name), printable(resource))


def list_endpoints(account: Account, location: str) -> list[Endpoint]:
    """Return the endpoints of a location.

    Raises:
        ConfigError, LoginNeededError, TemporaryError: see `lists.read`.
    """
    place = account.place
    url = f"{place.root_of(location)}/{place.version}/projects/{place.project}/locations/{location}/endpoints"
    asked = account.asked(location, "the list of endpoints", "aiplatform.endpoints.list", "vx-token endpoints")
    documents = pages(account, url, "endpoints", asked, pageSize="100")
    return [endpoint for endpoint in map(Endpoint.parse, documents) if endpoint is not None]


def get_endpoint(account: Account, location: str, endpoint: str) -> Endpoint | None:
    """Return one endpoint.

    Raises:
        ConfigError, LoginNeededError, TemporaryError: see `lists.read`.
    """
    place = account.place
    url = (
        f"{place.root_of(location)}/{place.version}/projects/{place.project}/locations/{location}/endpoints/{endpoint}"
    )
    asked = account.asked(location, f"the endpoint {endpoint}", "aiplatform.endpoints.get", "vx-token endpoints")
    return Endpoint.parse(read(account, url, asked))


def with_routes(account: Account, endpoint: Endpoint) -> Endpoint:
    """Return the endpoint with `invoke` as its model says; a model that cannot be read has the usual routes."""
    return replace(endpoint, invoke=any(_has_own_routes(account, model) for model in endpoint.models))


def _has_own_routes(account: Account, model: DeployedModel) -> bool:
    match = _RESOURCE.fullmatch(model.resource)
    if match is None:
        return False
    place, location = account.place, match[1]
    asked = account.asked(location, f"the model {model.name}", "aiplatform.models.get", "vx-token endpoints")
    try:
        document = read(account, f"{place.root_of(location)}/{place.version}/{model.resource}", asked)
    except VxTokenError:
        return False
    container = document.get("containerSpec")
    return isinstance(container, dict) and bool(container.get("invokeRoutePrefix"))


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def _host(dns: str) -> str:
    """Return the host of a dedicated DNS name, which Google's documentation shows with a scheme and answers without."""
    name = dns.removeprefix("https://").rstrip("/")
    return name if re.fullmatch(r"[A-Za-z0-9.-]+(:\d+)?", name) else ""
