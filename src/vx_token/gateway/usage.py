"""Token counts read from the end of an answer; the rest of it is never kept."""

import re
import zlib
from dataclasses import dataclass

_TAIL = 8 << 10  # bytes: usage is the last thing in a JSON answer and in the last events of a stream
_MOST = 64 << 20  # bytes of plain text after which a compressed answer is no longer read
_USAGE = re.compile(rb'(?<!\\)"usage"\s*:\s*\{')
_PROMPT = re.compile(rb'(?<!\\)"(?:prompt|input)_tokens"\s*:\s*(\d{1,12})\b')
_ANSWER = re.compile(rb'(?<!\\)"(?:completion|output)_tokens"\s*:\s*(\d{1,12})\b')


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that upstream counted for one request."""

    prompt: int = 0
    answer: int = 0


class UsageMeter:
    """Is fed an answer's chunks as they pass and remembers only the last few KiB of plain text.

    Attributes:
        size: bytes that passed.
    """

    def __init__(self, encoding: str = "") -> None:
        self.size = 0
        self._tail = b""
        self._plain = 0
        self._decoder = zlib.decompressobj(wbits=47) if encoding.lower() in {"gzip", "deflate"} else None
        self._readable = encoding.lower() in {"", "identity", "gzip", "deflate"}

    def feed(self, chunk: bytes) -> None:
        """Take note of the next chunk."""
        self.size += len(chunk)
        if not self._readable:
            return
        if self._decoder is None:
            self._tail = (self._tail + chunk)[-_TAIL:]
        else:
            self._inflate(self._decoder, chunk)

    def usage(self) -> Usage:
        """What the answer's end says; zeros when it says nothing."""
        end = _last(self._tail)
        return Usage(_number(_PROMPT, end), _number(_ANSWER, end))

    def _inflate(self, decoder: "zlib._Decompress", chunk: bytes) -> None:
        try:
            while chunk and self._readable:
                plain = decoder.decompress(chunk, 64 << 10)
                chunk = decoder.unconsumed_tail
                self._plain += len(plain)
                self._tail = (self._tail + plain)[-_TAIL:]
                self._readable = self._plain < _MOST
        except zlib.error:
            self._readable = False


def _last(text: bytes) -> bytes:
    """What follows the beginning of the last usage object.

    Not by `finditer`: CPython makes a new string "search" at each call of it and keeps hundreds of them in its cache of
    methods, each on a page of its own that could go back to the system after a burst.
    """
    at = len(text)
    while (at := text.rfind(b'"usage"', 0, at)) >= 0:
        if match := _USAGE.match(text, at):
            return text[match.end() :]
    return b""


def _number(pattern: re.Pattern[bytes], text: bytes) -> int:
    match = pattern.search(text)
    return int(match[1]) if match else 0
