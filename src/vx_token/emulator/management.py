"""The emulator's copy of Vertex AI's management routes: lists of endpoints and models, page by page.

Source: Google's discovery documents for aiplatform v1 and v1beta1, revision 20261106. Only v1beta1 lists publisher
models, and there is no list of publishers.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from aiohttp import web

from vx_token.emulator.catalog import Deployment
from vx_token.emulator.error_bodies import error, error_info, html, plain_unauthenticated
from vx_token.emulator.faults import Handler, Visit

if TYPE_CHECKING:
    from vx_token.emulator.state import EmulatedGoogle

Json = dict[str, Any]

LOCATION = "/projects/{project}/locations/{location}"
API = "aiplatform.googleapis.com"


class ManagementSide:
    """The routes by which a project's endpoints, their models and publishers' models are found."""

    def __init__(self, google: "EmulatedGoogle") -> None:
        self._google = google

    def routes(self) -> Iterator[tuple[str, str, str, Handler]]:
        """Yield method, path, the route's name and its handler."""
        for version in ("v1", "v1beta1"):
            yield "GET", f"/{version}{LOCATION}/endpoints", "endpoints", self._endpoints
            yield "GET", f"/{version}{LOCATION}/endpoints/{{endpoint}}", "endpoint", self._endpoint
            yield "GET", f"/{version}{LOCATION}/models/{{model}}", "model", self._model
        yield "GET", "/v1beta1/publishers/{publisher}/models", "publishers", self._publisher_models

    async def _endpoints(self, visit: Visit) -> web.StreamResponse:
        request = visit.request
        if refused := self._refused(request):
            return refused
        place = request.match_info
        found = self._google.catalog.endpoints(place["project"], place["location"])
        return self._page(request, "endpoints", [self._document(each) for each in found])

    async def _endpoint(self, visit: Visit) -> web.StreamResponse:
        if refused := self._refused(visit.request):
            return refused
        place = visit.request.match_info
        found = self._google.catalog.find(place["endpoint"])
        if found is None or found.location != place["location"]:
            # Source: public reports of the message.
            return _failure(404, f"The Endpoint does not exist: {visit.request.path.partition('/')[2]}")
        return web.json_response(self._document(found))

    async def _model(self, visit: Visit) -> web.StreamResponse:
        if refused := self._refused(visit.request):
            return refused
        place = visit.request.match_info
        name = place["model"].partition("@")[0]
        for each in self._google.catalog.endpoints(place["project"], place["location"]):
            if name in each.models:
                return web.json_response(each.model(name))
        return _failure(404, "The Model does not exist.")

    async def _publisher_models(self, visit: Visit) -> web.StreamResponse:
        request = visit.request
        if refused := self._refused(request) or self._without_user_project(request):
            return refused
        listed = self._google.catalog.listed(request.match_info["publisher"])
        if request.query.get("view") != "PUBLISHER_MODEL_VIEW_FULL":
            listed = [{key: value for key, value in each.items() if key != "publisherModelTemplate"} for each in listed]
        return self._page(request, "publisherModels", listed)

    def _document(self, endpoint: Deployment) -> Json:
        return endpoint.document(self._google.dedicated_host)

    def _refused(self, request: web.Request) -> web.Response | None:
        bearer = self._google.bearer(request)
        if isinstance(bearer, str):
            return plain_unauthenticated(bearer)
        self._google.ledger.amend(identity=bearer.identity)
        project = request.match_info.get("project", "")
        if project and project not in self._google.projects:
            # Source: reports of CONSUMER_INVALID for a project that does not exist or is not the login's.
            info = error_info("CONSUMER_INVALID", "googleapis.com", service=API, consumer=f"projects/{project}")
            return _failure(403, f"Permission denied on resource project {project}.", info)
        return None

    def _without_user_project(self, request: web.Request) -> web.Response | None:
        """Refuse a user's login that names no quota project, because this path contains no project.

        Source: bodies in public reports; the consumer is the project of gcloud's OAuth client.
        """
        bearer = self._google.bearer(request)
        if isinstance(bearer, str) or not bearer.identity.startswith("user-"):
            return None
        if request.headers.get("x-goog-user-project"):
            return None
        info = error_info("SERVICE_DISABLED", "googleapis.com", service=API, consumer="projects/764086051850")
        message = (
            "Your application is authenticating by using local Application Default Credentials. The "
            f"{API} API requires a quota project, which is not set by default. To learn how to set your quota project, "
            "see https://cloud.google.com/docs/authentication/adc-troubleshooting/user-creds ."
        )
        return _failure(403, message, info)

    def _page(self, request: web.Request, key: str, items: list[Json]) -> web.Response:
        """Return a page; a list without items is `{}`, as proto3's JSON form leaves empty fields out."""
        try:
            start = int(request.query.get("pageToken") or 0)
            size = min(int(request.query.get("pageSize") or 0) or self._google.catalog.page, self._google.catalog.page)
        except ValueError:
            return _failure(400, "Request contains an invalid argument.")
        body: Json = {key: items[start : start + size]} if items[start : start + size] else {}
        if start + size < len(items):
            body["nextPageToken"] = str(start + size)
        return web.json_response(body)


def _failure(status: int, message: str, *details: Json) -> web.Response:
    """Google's error object, which is not in a list on these routes."""
    return web.json_response(error(status, message, *details), status=status)


def refuse_prediction(google: "EmulatedGoogle", request: web.Request) -> web.StreamResponse | None:
    """Return Google's refusal of a completion at a deployed endpoint that does not serve it here.

    Sources: public reports for the dedicated host (400, FAILED_PRECONDITION) and for an endpoint without models; the
    route below `/invoke` from the schema of ModelContainerSpec.
    """
    endpoint = google.catalog.find(request.match_info["endpoint"])
    if endpoint is None:
        return None
    if endpoint.dedicated and request.host != google.dedicated_host:
        message = (
            "This endpoint is a dedicated endpoint via CloudESF and cannot be accessed through the Vertex AI API. "
            f"Please access the endpoint using its dedicated dns name '{google.dedicated_host}'"
        )
        body = error(400, message)
        body["error"]["status"] = "FAILED_PRECONDITION"
        return web.json_response([body], status=400)
    if not endpoint.models:
        body = error(400, f"Endpoint {endpoint.parent}/endpoints/{endpoint.id} doesn't have traffic_split.")
        body["error"]["status"] = "FAILED_PRECONDITION"
        return web.json_response([body], status=400)
    if ("/invoke/" in request.path) != endpoint.invoke:
        return html(404)
    return None
