"""Corrections to the headers that aiohttp writes: bytes above 0x7F are kept, and no defaults are added."""

import re
from collections.abc import Iterable

from aiohttp import http_writer, web
from multidict import CIMultiDict

_serialize = http_writer._serialize_headers  # noqa: SLF001
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110, section 5.5
_DEFAULTS = ("Server", "Content-Type")


class RelayedResponse(web.StreamResponse):
    """A response of upstream, without aiohttp's defaults for Server and Content-Type."""

    async def _prepare_headers(self) -> None:
        added = [name for name in _DEFAULTS if name not in self._headers]
        await super()._prepare_headers()
        for name in added:
            self._headers.popall(name, None)


def keep_header_bytes() -> None:
    """Make aiohttp write header bytes above 0x7F as it has read them; otherwise it drops them.

    It reads them as surrogates (PEP 383), and its writer has no other place to change that, so this applies to the
    whole process.
    """
    http_writer._serialize_headers = _with_all_bytes  # noqa: SLF001


def _with_all_bytes(status_line: str, headers: CIMultiDict[str]) -> bytes:
    if status_line.isascii() and all(map(str.isascii, headers.values())):
        return _serialize(status_line, headers)
    return head_bytes(status_line, headers.items())


def head_bytes(first_line: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Return the head of a request or response with its empty line.

    Raises:
        ValueError: a control character.
    """
    lines = [first_line, *[f"{name}: {value}" for name, value in headers]]
    if _CONTROL.search("".join(lines)):
        raise ValueError("a control character in a header")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")
