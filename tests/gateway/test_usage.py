"""Token counts are read from the end of a response, for any chunk size and compression."""

import gzip
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vx_token.gateway.metrics import LastMinute
from vx_token.gateway.usage import Usage, UsageMeter

CHAT = json.dumps({"choices": [{"text": "x" * 50_000}], "usage": {"completion_tokens": 7, "prompt_tokens": 5}}).encode()
STREAM = (
    b'data: {"usage":null}\n\n' * 900
    + b'data: {"usage": {"prompt_tokens": 5,"completion_tokens":7}}\n\ndata: [DONE]\n\n'
)
RESPONSES = b'event: done\ndata: {"response":{"usage":{"input_tokens":5,"output_tokens":7}}}\n\n'


@pytest.mark.parametrize("body", [CHAT, STREAM, RESPONSES])
@pytest.mark.parametrize("encoding", ["", "gzip", "deflate"])
@given(size=st.integers(1, 100_000))
def test_usage_is_found_at_the_end(body: bytes, encoding: str, size: int) -> None:
    packed = {"": body, "gzip": gzip.compress(body), "deflate": zlib.compress(body)}[encoding]
    meter = UsageMeter(encoding)
    for at in range(0, len(packed), max(size, len(packed) // 500)):
        meter.feed(packed[at : at + max(size, len(packed) // 500)])
    assert (meter.usage(), meter.size) == (Usage(5, 7), len(packed))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"usage":null}',
        b'{"text":"\\"usage\\":{\\"prompt_tokens\\":5"}',
        b'{"usage":{"x":1}}',
        b"\xff" * 99,
    ],
)
def test_without_usage_nothing_is_counted(body: bytes) -> None:
    meter = UsageMeter()
    meter.feed(body)
    assert meter.usage() == Usage()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_what_cannot_be_unpacked_is_not_counted(encoding: str) -> None:
    meter = UsageMeter(encoding)
    meter.feed(CHAT)
    assert meter.usage() == Usage()


def test_a_decompression_bomb_is_not_read() -> None:
    meter = UsageMeter("gzip")
    meter.feed(gzip.compress(bytes(200 << 20) + CHAT, 1))
    assert meter.usage() == Usage()


def test_a_minute_forgets_what_is_older() -> None:
    now = 100.0
    minute = LastMinute(lambda: now)
    minute.add(3)
    now = 130.9
    minute.add(4)
    minute.add(5)
    assert minute.total() == 12
    now = 160.0
    assert minute.total() == 9
    minute.add(1)
    assert minute.total() == 10
    now = 500.0
    assert minute.total() == 0
