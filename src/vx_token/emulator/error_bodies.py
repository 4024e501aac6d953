"""Google's error bodies, of its REST services and of its token endpoint."""

from typing import Any

from aiohttp import web

Json = dict[str, Any]

_STATUS_WORDS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_EXPECTED = (
    "Expected OAuth 2 access token, login cookie or other valid authentication credential. "
    "See https://developers.google.com/identity/sign-in/web/devconsole-project."
)


def error(status: int, message: str, *details: Json) -> Json:
    """Google's error object as its REST services send it."""
    body: Json = {"code": status, "message": message, "status": _STATUS_WORDS.get(status, "UNKNOWN")}
    return {"error": body | ({"details": list(details)} if details else {})}


def error_info(reason: str, domain: str, **metadata: str) -> Json:
    """The detail with the machine-readable reason of an error (google.rpc.ErrorInfo)."""
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    return {"@type": kind, "reason": reason, "domain": domain, "metadata": metadata}


def unauthenticated(reason: str) -> web.Response:
    """The 401 for a bearer that is missing (CREDENTIALS_MISSING), unknown or at its end."""
    body, challenge = _unauthenticated(reason)
    return web.json_response([body], status=401, headers={"WWW-Authenticate": challenge})


def plain_unauthenticated(reason: str) -> web.Response:
    """The same 401 outside the OpenAI routes, where the error object is not in a list."""
    body, challenge = _unauthenticated(reason)
    return web.json_response(body, status=401, headers={"WWW-Authenticate": challenge})


def _unauthenticated(reason: str) -> tuple[Json, str]:
    missing = reason == "CREDENTIALS_MISSING"
    start = "is missing required authentication credential" if missing else "had invalid authentication credentials"
    info = error_info(reason, "googleapis.com", service="aiplatform.googleapis.com")
    challenge = 'Bearer realm="https://accounts.google.com/"' + ("" if missing else ', error="invalid_token"')
    return error(401, f"Request {start}. {_EXPECTED}", info), challenge


def refusal(status: int, message: str, *details: Json) -> web.Response:
    """Google's error object inside a JSON array, as Vertex's OpenAI routes alone send it."""
    return web.json_response([error(status, message, *details)], status=status)


class DeniedError(Exception):
    """A request that Google's identity side refuses, with the body it sends."""

    def __init__(self, body: Json, status: int = 400) -> None:
        super().__init__(status)
        self.body = body
        self.status = status


def oauth_error(code: str, description: str, status: int = 400, **more: str) -> DeniedError:
    """The token endpoint's error body (RFC 6749 section 5.2)."""
    return DeniedError({"error": code, "error_description": description} | more, status)


def reauth_needed() -> DeniedError:
    """What companies answer daily: only a new login helps."""
    return oauth_error("invalid_grant", "reauth related error (invalid_rapt)", error_subtype="invalid_rapt")


def html(status: int) -> web.Response:
    """An error as a page."""
    return web.Response(status=status, text=page(status), content_type="text/html")


def page(status: int) -> str:
    """The page that Google shows to browsers and lost programs."""
    return f"<!DOCTYPE html>\n<html lang=en>\n<title>Error {status}!!1</title>\n<p><b>{status}.</b> That's an error.\n"
