"""Decompresses an answer chunk by chunk, and restricts the codings a request accepts to those it can read."""

import zlib
from collections.abc import Iterator

from vx_token.gateway.headers import Headers

_PIECE = 64 << 10  # bytes decompressed at once
_READABLE = frozenset({"gzip", "x-gzip", "deflate", "identity"})


class Decompressor:
    """Decompresses gzip and zlib streams in bounded pieces.

    Args:
        encoding: the Content-Encoding of the answer.
        limit: decompressed bytes after which nothing more is read.

    Attributes:
        readable: False after an error, beyond the limit, or with another encoding.
    """

    def __init__(self, encoding: str, limit: int) -> None:
        coding = encoding.strip().lower()
        self.readable = coding in _READABLE or not coding
        self._decoder = None if coding in {"", "identity"} else zlib.decompressobj(wbits=47)  # 47: zlib or gzip
        self._left = limit

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what the chunk contains."""
        while chunk and self.readable:
            if self._decoder is None:
                piece, chunk = chunk, b""
            else:
                try:
                    piece = self._decoder.decompress(chunk, _PIECE)
                except zlib.error:
                    self.readable = False
                    return
                chunk = self._decoder.unconsumed_tail
            self._left -= len(piece)
            self.readable = self._left >= 0
            if self.readable:
                yield piece


def accept_readable(headers: Headers) -> Headers:
    """Return the headers with only readable codings in Accept-Encoding."""
    return [(name, _readable(value)) if name.lower() == "accept-encoding" else (name, value) for name, value in headers]


def _readable(codings: str) -> str:
    kept = [coding.strip() for coding in codings.split(",") if coding.partition(";")[0].strip().lower() in _READABLE]
    return ", ".join(kept) or "identity"
