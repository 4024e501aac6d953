"""Error responses in the JSON form that OpenAI clients expect."""

import codecs
import json
import math
import re
import zlib
from http import HTTPStatus
from typing import Any

from vx_token.errors import LoginNeededError, TemporaryError, VxTokenError

_REGIONAL_MODEL = re.compile(r"/locations/(?!global/)([a-z0-9-]+)/publishers/[^/]+/models/")
_ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
MAX_ERROR_BODY = 256 << 10  # bytes of an error response that are converted


class GatewayError(Exception):
    """An error response of the gateway itself.

    Attributes:
        status: HTTP status.
        message: one sentence for the user of the tool.
        code: for programs, such as `login_needed`.
        retry_after: seconds, or None.
    """

    def __init__(self, status: int, message: str, code: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.retry_after = retry_after

    @property
    def body(self) -> bytes:
        """The error as JSON; `type` is one of OpenAI's names."""
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status)
        kind = kind or ("server_error" if self.status >= 500 else "invalid_request_error")
        return _dumps({"message": self.message, "type": kind, "param": None, "code": self.code})

    @property
    def headers(self) -> dict[str, str]:
        """Content-Type and Retry-After."""
        headers = {"Content-Type": "application/json"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        return headers


def token_error(profile: str, error: VxTokenError) -> GatewayError:
    """Return the response for a token error: 401 if a login is needed, 503 if a retry may help, else 500."""
    what = f"no Google token for profile {profile}: {error.message}"
    if error.hint:
        what = f"{what}; {error.hint}"
    if isinstance(error, LoginNeededError):
        return GatewayError(401, what, "login_needed")
    if isinstance(error, TemporaryError):
        return GatewayError(503, what, "token_unavailable", error.retry_after or 2.0)
    return GatewayError(500, what, "configuration_error")


def to_openai_error(status: int, body: bytes, encoding: str) -> bytes | None:
    """Convert Google's error array to OpenAI's error object; return None for any other body.

    OpenAI's clients expect an object. For an array they show only the status.
    """
    plain = decode(body, encoding).removeprefix(codecs.BOM_UTF8)
    if not plain.lstrip().startswith(b"["):
        return None
    try:
        first = json.loads(plain)[0]["error"]
        return _dumps(_openai(status, first)) if isinstance(first, dict) else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def may_be_array(beginning: bytes, encoding: str) -> bool:
    """Return whether a body that starts with these bytes can be Google's error array."""
    if encoding.lower() not in _ENCODINGS:
        return False
    plain = decode(beginning, encoding).removeprefix(codecs.BOM_UTF8).lstrip()
    return plain in {b"", codecs.BOM_UTF8[:1], codecs.BOM_UTF8[:2]} or plain.startswith(b"[")


def decode(body: bytes, encoding: str) -> bytes:
    """Decompress a small body; return empty bytes if that fails."""
    if encoding.lower() in {"", "identity"}:
        return body
    try:
        return zlib.decompressobj(wbits=47).decompress(body, MAX_ERROR_BODY)  # 47: zlib or gzip
    except zlib.error:
        return b""


def _openai(status: int, error: dict[str, Any]) -> dict[str, Any]:
    message = error.get("message")
    if not isinstance(message, str) or not message.strip():
        message = (
            f"upstream answered {status} {HTTPStatus(status).phrase if status in set(HTTPStatus) else ''}".rstrip()
        )
    if status == HTTPStatus.NOT_FOUND and (place := _REGIONAL_MODEL.search(message)):
        message = f'{message} Many models are not served in {place[1]}: set location = "global" in the configuration.'
    return {**error, "message": message, "type": error.get("status") or "upstream_error", "param": None}


def _dumps(error: dict[str, Any]) -> bytes:
    # errors="replace": a lone surrogate has no UTF-8 form. allow_nan=False: JSON has no infinity (ValueError).
    return json.dumps({"error": error}, ensure_ascii=False, allow_nan=False).encode(errors="replace")
