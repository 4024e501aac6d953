"""Errors in the shape that OpenAI clients show to their users."""

import codecs
import json
import math
import zlib
from http import HTTPStatus
from typing import Any

from vx_token.errors import LoginNeededError, TemporaryError, VxTokenError

MAX_ERROR_BODY = 256 << 10  # bytes of an error's body that are looked at


class GatewayError(Exception):
    """An answer of the gateway's own in place of upstream's.

    Attributes:
        status: HTTP status.
        message: one sentence for the tool's user.
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
        """The error as JSON; `type` follows OpenAI's names."""
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status)
        kind = kind or ("server_error" if self.status >= 500 else "invalid_request_error")
        return _dumps({"message": self.message, "type": kind, "param": None, "code": self.code})

    @property
    def headers(self) -> dict[str, str]:
        """Content type, and when to come again."""
        headers = {"Content-Type": "application/json"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        return headers


def token_error(profile: str, error: VxTokenError) -> GatewayError:
    """Why there is no token, message to the tool's user: worth a retry or not, and what to do."""
    what = f"vx-token has no Google token for profile {profile}: {error.message}"
    if error.hint:
        what = f"{what}; {error.hint}"
    if isinstance(error, LoginNeededError):
        return GatewayError(401, what, "login_needed")
    if isinstance(error, TemporaryError):
        return GatewayError(503, what, "token_unavailable", error.retry_after or 2.0)
    return GatewayError(500, what, "configuration_error")


def to_openai_error(status: int, body: bytes, encoding: str) -> bytes | None:
    """Google's error array as OpenAI's object; None when the body is anything else and stays as it is.

    Current SDKs look for an object and show nothing but the status for the array.
    """
    plain = decode(body, encoding).removeprefix(codecs.BOM_UTF8)
    if not plain.lstrip().startswith(b"["):
        return None
    try:
        first = json.loads(plain)[0]["error"]
        return _dumps(_openai(status, first)) if isinstance(first, dict) else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def decode(body: bytes, encoding: str) -> bytes:
    """The plain text of a small compressed body; empty when it cannot be read."""
    if encoding.lower() in {"", "identity"}:
        return body
    try:
        return zlib.decompressobj(wbits=47).decompress(body, MAX_ERROR_BODY)  # 47: zlib or gzip, whichever it is
    except zlib.error:
        return b""


def _openai(status: int, error: dict[str, Any]) -> dict[str, Any]:
    message = error.get("message")
    if not isinstance(message, str) or not message.strip():
        message = (
            f"upstream answered {status} {HTTPStatus(status).phrase if status in set(HTTPStatus) else ''}".rstrip()
        )
    return {**error, "message": message, "type": error.get("status") or "upstream_error", "param": None}


def _dumps(error: dict[str, Any]) -> bytes:
    # Half a surrogate pair has no UTF-8 form, and JSON has no infinity (a ValueError).
    return json.dumps({"error": error}, ensure_ascii=False, allow_nan=False).encode(errors="replace")
