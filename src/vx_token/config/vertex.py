"""Base URLs of Vertex AI's OpenAI-compatible API.

Source: Google's discovery documents for aiplatform v1; `global` has no prefix, `us` and `eu` have hosts of their own.
"""

import re
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import urlsplit

from vx_token.config.locations import LOCATIONS, MULTI_REGIONS, REVISION, nearest

UNIVERSE = "googleapis.com"
DEDICATED = ".prediction.vertexai.goog"
"""The end of a dedicated endpoint's host."""

_PATH = re.compile(r"/(v1|v1beta1)/projects/([^/]+)/locations/([^/]+)/endpoints/([^/]+)(/.*)?")
_SHARED_HOST = re.compile(rf"((?:[a-z0-9-]+-)?aiplatform|aiplatform\.({'|'.join(MULTI_REGIONS)})\.rep)\.{UNIVERSE}")
"""The hosts of the API, each of which serves one location."""
_HOST = re.compile(r"(?:aiplatform\.[a-z]+\.rep|aiplatform|[a-z0-9-]+-aiplatform)\.([a-z0-9-]+(?:\.[a-z0-9-]+)+)")


@dataclass(frozen=True, slots=True)
class Place:
    """The parts of a base URL.

    Attributes:
        root: scheme and host.
        version: `v1` or `v1beta1`.
        project: the project's id or number.
        location: the location in the path.
        endpoint: `openapi` or an endpoint's id.
        route: the path below the endpoint, such as `/invoke/v1`.
    """

    root: str
    version: str
    project: str
    location: str
    endpoint: str
    route: str = ""

    @classmethod
    def parse(cls, url: str) -> Self | None:
        """Return the parts of a base URL of Vertex AI, None for any other URL."""
        parts = urlsplit(url)
        match = _PATH.fullmatch(parts.path.rstrip("/"))
        return cls(f"{parts.scheme}://{parts.netloc}", *match.groups("")) if match else None

    @property
    def url(self) -> str:
        """The base URL."""
        path = f"{self.version}/projects/{self.project}/locations/{self.location}/endpoints/{self.endpoint}"
        return f"{self.root}/{path}{self.route}"

    @property
    def universe(self) -> str:
        """The domain of Google's API hosts in this universe, "" for loopback, Private Service Connect and proxies."""
        name = urlsplit(self.root).hostname or ""
        match = _HOST.fullmatch(name)
        return UNIVERSE if name.endswith(DEDICATED) else match[1] if match else ""

    def root_of(self, location: str) -> str:
        """Return scheme and host of the API in a location; a host that is not Google's serves all of them."""
        return f"https://{host(location, self.universe)}" if self.universe else self.root


def host(location: str, universe: str = UNIVERSE) -> str:
    """Return the API host of a location."""
    if location == "global":
        return f"aiplatform.{universe}"
    if location in MULTI_REGIONS:
        return f"aiplatform.{location}.rep.{universe}"
    return f"{location}-aiplatform.{universe}"


def is_location(name: str) -> bool:
    """Whether `name` has the form of a location; whether it exists only Google knows."""
    return re.fullmatch(r"global|us|eu|[a-z]+-[a-z]+\d+", name) is not None


def base_url(project: str, location: str, endpoint: str, api_version: str) -> str:
    """Return the base URL, to which tools append `/chat/completions`."""
    return Place(f"https://{host(location)}", api_version, project, location, endpoint).url


def is_own_endpoint(url: str) -> bool:
    """Whether a base URL is that of a deployed endpoint, not of the API with all of Google's models."""
    return re.search(r"/endpoints/(?!openapi$)[^/]+(/invoke(/.*)?)?$", url) is not None


def problem(url: str) -> tuple[str, str]:
    """Return why no request to this base URL can succeed, and what to do; two empty strings for no known reason."""
    parts = urlsplit(url)
    name = parts.hostname or ""
    if suffix := re.search(r"/(chat/)?completions$", parts.path):
        return f"{url} ends with a path that tools append", f"remove {suffix[0]} from base_url"
    if name == "generativelanguage.googleapis.com":
        hint = "set project and location instead of base_url; or use that API's own key without vx-token"
        return "this is the Gemini API, which takes API keys; vx-token is for Vertex AI", hint
    if not name.endswith((UNIVERSE, DEDICATED)):
        return "", ""
    if prefix := re.fullmatch(rf"(global|us|eu)-aiplatform\.{UNIVERSE}", name):
        return f"the host {name} does not exist", f'set location = "{prefix[1]}" and remove base_url'
    place = Place.parse(url)
    if place is None or (place.route and (place.endpoint == "openapi" or not place.route.startswith("/invoke"))):
        hint = "base_url must end with /v1/projects/PROJECT/locations/LOCATION/endpoints/openapi"
        return f"{url} is not a URL of Vertex AI", hint
    if name.endswith(DEDICATED) and place.endpoint == "openapi":
        hint = "end base_url with endpoints/ID/invoke/v1, or set project and location instead"
        return f"{name} is the host of one endpoint, and serves no endpoints/openapi", hint
    # Google's other hosts, such as those of Private Service Connect (NAME.p.googleapis.com), have names of any form.
    if _SHARED_HOST.fullmatch(name) and host(place.location) != name:
        return f"{name} does not serve the location {place.location}", f"use the host {host(place.location)}"
    return "", ""


def warning(url: str) -> tuple[str, str]:
    """Return what is unusual about this base URL, and what would be usual; two empty strings for nothing."""
    place = Place.parse(url)
    if place is not None and place.universe not in ("", UNIVERSE):
        return _other_universe(place)
    if place is None or place.universe != UNIVERSE:
        return "", ""
    if place.location not in LOCATIONS:
        near = nearest(place.location)
        hint = f"did you mean {near}?" if near else "use global, us, eu, or a region such as us-central1"
        return f"{place.location} is not among the locations that Google listed on {REVISION}", hint
    if place.endpoint != "openapi" and place.location in ("global", *MULTI_REGIONS):
        hint = f"find its region: vx-token endpoints --all-locations; then run: vx-token endpoints use {place.endpoint}"
        return f"a deployed endpoint such as {place.endpoint} is in a region, not in {place.location}", hint
    return "", ""


def overruled(base_url: str, location: str) -> tuple[str, str]:
    """Return why a profile's location has no effect, and what to do; two empty strings where it has."""
    place = Place.parse(base_url)
    if place is None or location in ("global", place.location):  # global is the default, so perhaps not meant
        return "", ""
    hint = f"to use {location} remove base_url (and endpoint, which is in one location); else set the same location"
    return f"location = {location!r} has no effect, because base_url is in {place.location}", hint


def _other_universe(place: Place) -> tuple[str, str]:
    """Return the usual host of a location in another universe, whose hosts may also be a proxy's."""
    name, usual = urlsplit(place.root).hostname, host(place.location, place.universe)
    if name == usual:
        return "", ""
    return f"{name} has not the usual form of a host for {place.location}", f"if it is Google's, use the host {usual}"


def universe_problem(url: str, universe: str) -> tuple[str, str]:
    """Return why a login of `universe` is refused at this base URL, and what to do; two empty strings for no reason."""
    place = Place.parse(url)
    if place is None or place.universe in ("", universe):
        return "", ""
    right = replace(place, root=f"https://{host(place.location, universe)}").url
    return f"the login is of the universe {universe}, and the URL of {place.universe}", f'set base_url = "{right}"'
