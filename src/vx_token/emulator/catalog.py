"""What the emulated Vertex AI has: deployed endpoints, the models on them, and the models that publishers list."""

import itertools
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

PROJECT_NUMBER = "42"
PUBLISHED = {
    "google": ("gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-2.5-pro", "gemini-embedding-001"),
    "meta": ("llama-4-maverick-17b-128e-instruct-maas",),
    "qwen": ("qwen3-coder-480b-a35b-instruct-maas",),
}
"""Models that are listed unless `publish` says otherwise."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """An endpoint and what is deployed at it.

    Attributes:
        id: the endpoint's id.
        project: its project.
        location: its region.
        name: its display name.
        models: the display names of the deployed models; empty when nothing is served.
        serves: the name that its container knows the model by; "" for a container that accepts every name.
        dedicated: whether only the endpoint's own host serves it.
        invoke: whether the container's own routes are below `/invoke`.
        private: whether it is reached by Private Service Connect only.
    """

    id: str
    project: str = "demo"
    location: str = "us-central1"
    name: str = "endpoint"
    models: tuple[str, ...] = ("llama",)
    serves: str = ""
    dedicated: bool = False
    invoke: bool = False
    private: bool = False

    @property
    def parent(self) -> str:
        """The resource name of its location."""
        return f"projects/{self.project}/locations/{self.location}"

    def document(self, dedicated_dns: str) -> Json:
        """Return the Endpoint as Google's REST API does; empty fields are left out.

        Source: schema GoogleCloudAiplatformV1Endpoint in Google's discovery document, revision 20261106. There is no
        `state`. The schema shows `dedicatedEndpointDns` with a scheme; public reports show a bare host name.
        """
        models = [
            {
                "id": f"{number}{self.id[-3:]}",
                "displayName": name,
                "model": f"projects/{PROJECT_NUMBER}/locations/{self.location}/models/{name}",
                "modelVersionId": "1",
            }
            for number, name in enumerate(self.models, 1)
        ]
        document: Json = {
            "name": f"projects/{PROJECT_NUMBER}/locations/{self.location}/endpoints/{self.id}",
            "displayName": self.name,
            "createTime": "2026-11-01T12:00:00.000000Z",
        }
        if models:
            document |= {"deployedModels": models, "trafficSplit": {models[0]["id"]: 100}}
        if self.dedicated:
            document |= {"dedicatedEndpointEnabled": True, "dedicatedEndpointDns": dedicated_dns}
        if self.private:
            document |= {"privateServiceConnectConfig": {"enablePrivateServiceConnect": True}}
        return document

    def model(self, name: str) -> Json:
        """Return one of its models as Google's REST API does.

        Source: schema GoogleCloudAiplatformV1ModelContainerSpec, revision 20261106: only one of `predictRoute` and
        `invokeRoutePrefix` may be set, and "/*" is the only value of the latter.
        """
        route = {"invokeRoutePrefix": "/*"} if self.invoke else {"predictRoute": "/v1/chat/completions"}
        return {
            "name": f"projects/{PROJECT_NUMBER}/locations/{self.location}/models/{name}",
            "displayName": name,
            "containerSpec": {"imageUri": "us-docker.pkg.dev/vertex-ai/vllm-serve", "healthRoute": "/health"} | route,
        }


@dataclass(slots=True)
class Catalog:
    """The deployed endpoints and the listed models; may be changed at any time.

    Attributes:
        page: the maximum number of items on a page, whatever a request asks for.
        unavailable: model ids, with publisher, that are listed and answer 404, because the list shows such models.
    """

    page: int = 100
    unavailable: set[str] = field(default_factory=set)
    _deployments: dict[str, Deployment] = field(default_factory=dict)
    _published: dict[str, list[Json]] = field(default_factory=dict)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(7_000_001))

    def __post_init__(self) -> None:
        for publisher, names in PUBLISHED.items():
            self.publish(publisher, *names)

    def deploy(self, id: str = "", **fields: Any) -> Deployment:  # noqa: A002 - as Google calls it
        """Create an endpoint, or replace it; `fields` are those of `Deployment`."""
        if "models" in fields:
            fields["models"] = tuple(fields["models"])
        endpoint = Deployment(id or str(next(self._numbers)), **fields)
        self._deployments = {**self._deployments, endpoint.id: endpoint}
        return endpoint

    def publish(self, publisher: str, *names: str, deployable: tuple[str, ...] = ()) -> None:
        """Set the models that a publisher lists; those of `deployable` must be deployed before they answer.

        Source: schema GoogleCloudAiplatformV1beta1PublisherModel, revision 20261106. `publisherModelTemplate` is there
        for models that can be called without deploying them.
        """
        template = "projects/{user-project}/locations/{location}/publishers/" + publisher + "/models/"
        called: list[Json] = [
            {"publisherModelTemplate": template + name, "supportedActions": {"openGenerationAiStudio": {}}}
            for name in names
        ]
        deployed: list[Json] = [{"supportedActions": {"deploy": {}}} for _ in deployable]
        self._published[publisher] = [
            {"name": f"publishers/{publisher}/models/{name}", "versionId": "default", "launchStage": "GA"} | more
            for name, more in zip((*names, *deployable), called + deployed, strict=True)
        ]

    def find(self, endpoint: str) -> Deployment | None:
        """Return the endpoint with this id."""
        return self._deployments.get(endpoint)

    def endpoints(self, project: str, location: str) -> list[Deployment]:
        """Return the endpoints of a project in a location; `project` is an id or a number."""
        return [
            each
            for each in self._deployments.values()
            if each.location == location and project in (each.project, PROJECT_NUMBER)
        ]

    def listed(self, publisher: str) -> list[Json]:
        """Return the models that a publisher lists; an unknown publisher lists none."""
        return self._published.get(publisher, [])
