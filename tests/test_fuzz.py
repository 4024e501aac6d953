"""No input that vx-token cannot trust crashes it, is executed, or gets where it does not belong.

VX_TOKEN_EXAMPLES sets how many inputs Hypothesis tries; scripts/prove-security sets it, and counts them.
"""

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fuzz_targets
from shells import HOOKS, Runtime, environment, need, snippet
from upstreams import KEY, Front, Purse, front, upstream
from vx_token.gateway import statusz
from vx_token.gateway.settings import Route

pytestmark = pytest.mark.slow  # thousands of inputs

STEPS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
TENTH = settings(STEPS, max_examples=max(10, settings().max_examples // 10))  # for those that start a process


def altered(seed: bytes) -> st.SearchStrategy[bytes]:
    """A good input with some bytes cut out, put in, doubled or replaced."""
    pieces = [
        b"\0",
        b"\n",
        b"\r\n",
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b"%2e",
        b"..",
        b"\xff",
        b"'",
        b"9" * 30,
        b"\\u0000",
    ]
    cut = st.tuples(st.integers(0, len(seed)), st.integers(0, 20), st.sampled_from(pieces) | st.binary(max_size=8))

    def apply(cuts: list[tuple[int, int, bytes]]) -> bytes:
        data = seed
        for at, length, new in cuts:
            data = data[:at] + new + data[at + length :]
        return data

    return st.lists(cut, max_size=4).map(apply)


@pytest.mark.parametrize("name", fuzz_targets.TARGETS)
@given(data=st.data())
@STEPS
def test_any_bytes_keep_the_target_s_promise(name: str, data: st.DataObject) -> None:
    target, seeds = fuzz_targets.TARGETS[name]
    target(data.draw(st.one_of(st.binary(), st.text().map(str.encode), *map(altered, seeds))))


HOSTILE = [
    "$(touch CANARY)",
    "`touch CANARY`",
    "; touch CANARY;",
    "&& touch CANARY",
    "| touch CANARY",
    "\n touch CANARY\n",
    "'",
    '"',
    "\\",
    "$",
    "(touch CANARY)",
    "{touch,CANARY}",
    "<(touch CANARY)",
    ">CANARY",
    "\x1b[2J",
    "\r",
    "\0",
    "!!",
    "~",
    "*",
    "=(touch CANARY)",
    "%n",
    "export PATH='/x'\n",
    "export LD_PRELOAD='/x'\n",
    "# end\n",
    "# expires: 99999999999\n",
    "# status: login\n",
    "set -e\n",
    "export ",
    "a[$(touch CANARY)]",
    "exit 7\n",
    "\u00e9",
    "\ud83d",
]
SHELLS = {
    "bash": ["bash", "--noprofile", "--norc", "-eu"],
    "zsh": ["zsh", "-f", "-eu"],
    "fish": ["fish", "--no-config"],
}
PRINT = '/usr/bin/env -0; printf "\\n[done]"'


@st.composite
def hostile_files(draw: st.DrawFn) -> bytes:
    """An env file of vx-token's with hostile pieces put in, some of its lines moved, or any bytes."""
    text = snippet("tok-1", extra={"A_KEY": "value"})
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(HOSTILE)) + text[at + draw(st.integers(0, 5)) :]
    lines = draw(st.permutations(text.splitlines())) if draw(st.booleans()) else text.splitlines()
    whole = ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")
    return draw(st.just(whole) | st.binary(max_size=300))


@pytest.mark.parametrize("kind", HOOKS)
@given(data=hostile_files())
@TENTH
def test_no_env_file_is_executed_by_a_hook(kind: str, data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    need(kind)
    home = tmp_path_factory.getbasetemp() / f"hostile-{kind}"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    runtime = Runtime(home / "runtime")
    runtime.write("tok-0")
    for path in runtime.root.rglob("env.*"):
        path.write_bytes(data)
    environ = environment(home, runtime)
    argv = [*SHELLS[kind], "-c", f"source {HOOKS[kind]}; {PRINT}"]
    done = subprocess.run(argv, env=environ, cwd=home, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert done.stdout.endswith(b"\n[done]")
    seen = dict(each.partition(b"=")[::2] for each in done.stdout.split(b"\0"))
    assert seen[b"PATH"] == environ["PATH"].encode()
    assert b"LD_PRELOAD" not in seen
    assert not any(
        byte < 32 or byte == 127
        for value in (seen.get(b"OPENAI_API_KEY", b""), seen.get(b"A_KEY", b""))
        for byte in value
    )
    assert {path.name for path in home.iterdir()} <= {"runtime", ".config", ".local", ".cache"}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Front, Path]]:
    path = tmp_path_factory.mktemp("peer") / "gateway.sock"
    with upstream() as server, front(Purse(), Route("p", server.url), unix_socket=path) as running:
        yield running, path


REQUEST = (
    b"POST /v1/x?a=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
    + KEY.encode()
    + b"\r\nContent-Length: 5\r\n\r\nhello"
)


@given(data=st.binary() | altered(REQUEST))
@STEPS
def test_any_peer_of_the_unix_socket_is_answered_or_closed(proxy: tuple[Front, Path], data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(30)
        raw.connect(str(proxy[1]))
        with suppress(OSError):
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionError):
            while chunk := raw.recv(65536):
                answer += chunk
    assert answer == b"" or answer.startswith(b"HTTP/")
    assert b" 500 " not in answer.split(b"\r\n")[0]


def test_the_gateway_still_serves_after_all_peers(proxy: tuple[Front, Path]) -> None:
    assert proxy[0].ask().status == 200


GOOD = (
    b'{"requests":1,"errors":0,"in_flight":1,"tokens_per_minute":0,"started_at":1.5,'
    b'"keys":{"a":{"requests":1,"errors":0,"tokens":0,"last_used":1}}}'
)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Callable[[bytes], None]]]:
    """Another program on the gateway's Unix socket, and a function that sets what it answers."""
    path, answers = tmp_path_factory.mktemp("stranger") / "gateway.sock", [b""]
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection, suppress(OSError):
                        connection.recv(65536)
                        connection.sendall(answers[0])

        threading.Thread(target=serve, daemon=True).start()
        yield f"unix:{path}", lambda answer: answers.__setitem__(0, answer)
        listening.shutdown(socket.SHUT_RDWR)


@given(data=st.binary() | altered(b"HTTP/1.1 200 OK\r\n\r\n" + GOOD))
@STEPS
def test_whatever_another_program_answers_on_the_socket_is_shown_as_plain_text(
    stranger: tuple[str, Callable[[bytes], None]], data: bytes
) -> None:
    address, set_answer = stranger
    set_answer(data)
    found = statusz.query(address, lambda: KEY)
    assert KEY not in str(found)
    assert str(found).isprintable()
