"""Reads model token counts from the end of a response, without buffering the rest."""

import re
import zlib
from dataclasses import dataclass

_TAIL = 8 << 10  # bytes kept; usage is at the end of a JSON response and in the last events of a stream
_MAX_PLAIN = 64 << 20  # decompressed bytes after which a compressed response is no longer read
_USAGE = re.compile(rb'(?<!\\)"usage"\s*:\s*\{')
_PROMPT = re.compile(rb'(?<!\\)"(?:prompt|input)_tokens"\s*:\s*(\d{1,12})\b')
_ANSWER = re.compile(rb'(?<!\\)"(?:completion|output)_tokens"\s*:\s*(\d{1,12})\b')


@dataclass(frozen=True, slots=True)
class Usage:
    """Model tokens of one request, as counted by upstream."""

    prompt: int = 0
    answer: int = 0


class UsageMeter:
    """Receives the chunks of a response and keeps only the last few KiB, decompressed.

    Attributes:
        size: bytes received.
    """

    def __init__(self, encoding: str = "") -> None:
        self.size = 0
        self._tail = b""
        self._plain = 0
        self._decoder = zlib.decompressobj(wbits=47) if encoding.lower() in {"gzip", "deflate"} else None
        self._readable = encoding.lower() in {"", "identity", "gzip", "deflate"}

    def feed(self, chunk: bytes) -> None:
        """Add the next chunk."""
        self.size += len(chunk)
        if not self._readable:
            return
        if self._decoder is None:
            self._tail = (self._tail + chunk)[-_TAIL:]
        else:
            self._inflate(self._decoder, chunk)

    def usage(self) -> Usage:
        """Return the counts at the end of the response; zeros if there are none."""
        end = _last(self._tail)
        return Usage(_number(_PROMPT, end), _number(_ANSWER, end))

    def _inflate(self, decoder: "zlib._Decompress", chunk: bytes) -> None:
        try:
            while chunk and self._readable:
                plain = decoder.decompress(chunk, 64 << 10)
                chunk = decoder.unconsumed_tail
                self._plain += len(plain)
                self._tail = (self._tail + plain)[-_TAIL:]
                self._readable = self._plain < _MAX_PLAIN
        except zlib.error:
            self._readable = False


def _last(text: bytes) -> bytes:
    """Return what follows the start of the last usage object.

    Not with `finditer`: CPython creates a new string "search" per call and keeps hundreds of them in its method cache.
    Spread over the heap, they keep pages from being returned to the system.
    """
    at = len(text)
    while (at := text.rfind(b'"usage"', 0, at)) >= 0:
        if match := _USAGE.match(text, at):
            return text[match.end() :]
    return b""


def _number(pattern: re.Pattern[bytes], text: bytes) -> int:
    match = pattern.search(text)
    return int(match[1]) if match else 0
