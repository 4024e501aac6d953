"""The gateway inside the daemon, alone, and behind `exec`: stock clients that are built once and never see a 401."""

import base64
import contextlib
import http.client
import importlib
import itertools
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pexpect
import psutil
import pytest
import trustme

from gateways import (
    MODEL,
    NAMES,
    alone,
    answers,
    ask,
    client,
    configure,
    exported,
    free_port,
    last_chat,
    listen,
    local_key,
    say,
)
from sandbox import Box, until
from vx_token.emulator import Emulator


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def behind(box: Box, google: Emulator, port: int) -> Box:
    """A home whose profile `gemini` is in gateway mode."""
    google.service_account(box.key)
    configure(box, google, port)
    return box


def test_everything_exports_the_local_key_and_url_and_both_survive_a_restart(
    behind: Box, google: Emulator, port: int
) -> None:
    seen = set()
    for _ in range(2):
        with behind.daemon():
            until(lambda: behind.read("env.sh"))
            variables = exported(behind)
            assert {variables[name] for name in NAMES} == {f"http://127.0.0.1:{port}/v1"}
            lines = behind.read("env.sh").splitlines()
            assert "# mode: gateway" in lines
            assert {f"export {name}='{variables[name]}'" for name in ("OPENAI_API_KEY", *NAMES)} <= set(lines)
            script = 'printf "%s %s" "$OPENAI_API_KEY" "$OPENAI_BASE_URL"'
            assert (
                behind.vx("exec", "--", "sh", "-c", script).stdout
                == f"{variables['OPENAI_API_KEY']} {variables[NAMES[0]]}"
            )
            seen.add(variables["OPENAI_API_KEY"])
    assert len(seen) == 1
    key = seen.pop()
    assert len(key) > 40
    assert key not in {issued.value for issued in google.issued}
    assert key not in behind.log


def test_one_client_outlives_many_tokens_while_the_token_endpoint_stumbles(
    behind: Box, google: Emulator, port: int
) -> None:
    google.lifetime = 2.0
    google.fail("token", times=None, probability=0.1, seed=7)
    with behind.daemon(), client(behind, port) as built_once:
        rounds = 0
        while len(google.issued) < 4:
            assert say(built_once)
            assert listen(built_once)
            rounds += 1
            assert rounds < 10_000
            time.sleep(0.02)
    answered = [seen for seen in google.requests if seen.route == "chat"]
    assert {seen.status for seen in answered} == {200}
    assert len(answered) == 2 * rounds
    assert google.count("token") > google.count("token", 200)


@pytest.mark.parametrize("crowd", [1, 16])
def test_a_token_that_upstream_refuses_is_replaced_by_one_refresh(
    behind: Box, google: Emulator, port: int, crowd: int
) -> None:
    with behind.daemon(), client(behind, port) as built_once:
        assert say(built_once)
        google.revoke(google.issued[-1].value)
        with ThreadPoolExecutor(crowd) as pool:
            assert all(pool.map(lambda _: say(built_once), range(crowd)))
    assert google.count("token") == 2
    assert 1 <= google.count("chat", 401) <= crowd
    assert google.count("chat", 200) == 1 + crowd


def test_a_login_problem_reaches_the_tools_user_with_the_command_to_run(
    behind: Box, google: Emulator, port: int
) -> None:
    identity = google.authorized_user(behind.key)
    google.revoke_identity(identity, reauth=True)
    with behind.daemon(), client(behind, port) as built_once:
        with pytest.raises(openai.AuthenticationError) as caught:
            say(built_once)
        assert "gcloud auth application-default login" in caught.value.message
        assert "gcloud auth application-default login" in behind.vx("status").stdout
        google.restore_identity(identity)
        google.authorized_user(behind.key)
        assert until(lambda: attempt(built_once))


@pytest.mark.parametrize("command", ["run", "gateway"])
def test_a_token_of_another_login_is_never_served(behind: Box, google: Emulator, port: int, command: str) -> None:
    """Neither what the store holds at the start, nor after a reload or a new login."""
    second = behind.root / "second.json"
    other, mine = google.service_account(second), google.service_account(behind.key)
    configure(behind, google, port, credentials=str(second))
    assert behind.vx("refresh").returncode == 0
    configure(behind, google, port)
    with behind.daemon() if command == "run" else alone(behind, port) as process, client(behind, port) as built_once:

        def identity() -> str:
            assert say(built_once)
            return last_chat(google).identity

        assert identity() == mine
        configure(behind, google, port, credentials=str(second), best="google/gemini-9")
        process.send_signal(signal.SIGHUP)
        until(lambda: b"best" in ask(port, "/v1/models", local_key(behind))[1])
        assert identity() == other
        new = google.service_account(second)
        assert identity() == new


TWICE = """
import os, subprocess, sys, openai
for _ in range(2):
    with openai.OpenAI(max_retries=0) as client:
        client.chat.completions.create(model="MODEL", messages=[{"role": "user", "content": "hello"}])
    del os.environ["VX_TOKEN_CREDENTIALS"]
    subprocess.run([sys.executable, "-m", "vx_token", "print"], check=True)
    os.environ["VX_TOKEN_CREDENTIALS"] = ""
""".replace("MODEL", MODEL)


def test_exec_with_a_gateway_keeps_to_the_login_that_it_was_given(behind: Box, google: Emulator) -> None:
    second = behind.root / "second.json"
    other = google.service_account(second)
    behind.environ["VX_TOKEN_CREDENTIALS"] = str(second)
    done = behind.vx("exec", "--gateway", "--", sys.executable, "-c", TWICE)
    assert done.returncode == 0, done.stderr
    assert [seen.identity for seen in google.requests if seen.route == "chat"] == [other, other]


def attempt(client: openai.OpenAI) -> str:
    try:
        return say(client)
    except openai.APIStatusError:
        return ""


def test_without_a_token_a_request_waits_and_is_then_told_to_come_again(
    behind: Box, google: Emulator, port: int
) -> None:
    google.fail("token", times=None)
    with behind.daemon(), client(behind, port) as built_once:
        assert ask(port, "/readyz")[0] == 503
        with pytest.raises(openai.InternalServerError) as caught:
            say(built_once)
        assert caught.value.status_code == 503
        assert int(caught.value.response.headers["retry-after"]) >= 1
        google.heal()
        assert until(lambda: attempt(built_once), 30)
        assert ask(port, "/readyz")[0] == 200
    assert google.count("chat") == 1


@pytest.mark.parametrize("command", ["run", "gateway"])
def test_in_an_outage_the_key_stays_and_the_gateway_says_what_is_wrong(
    behind: Box, google: Emulator, port: int, command: str
) -> None:
    """Past the token's end too: 503 with Retry-After while time helps, 401 with the command when only a login does."""
    identity = google.authorized_user(behind.key)
    google.lifetime = 4.0
    with behind.daemon() if command == "run" else alone(behind, port):
        key = local_key(behind)
        assert until(lambda: ask(port, "/readyz")[0] == 200)
        google.fail("token", times=None)
        until(lambda: time.time() > google.issued[-1].expires_at, 30)
        with client(behind, port) as built_once:
            with pytest.raises(openai.InternalServerError) as busy:
                say(built_once)
            assert busy.value.status_code == 503
            assert 1 <= int(busy.value.response.headers["retry-after"]) <= 60
            assert busy.value.code == "token_unavailable"
            google.heal()
            google.revoke_identity(identity, reauth=True)
            assert behind.vx("refresh").returncode == 4
            for _ in range(2):
                started = time.monotonic()
                with pytest.raises(openai.AuthenticationError) as refused:
                    say(built_once)
                assert time.monotonic() - started < 8
                assert "gcloud auth application-default login" in refused.value.message
                assert refused.value.code == "login_needed"
            google.restore_identity(identity)
            google.lifetime = 3600.0
            google.authorized_user(behind.key)
            assert until(lambda: attempt(built_once), 30)
        assert local_key(behind) == key
    assert google.count("token") < 40


def test_a_longer_pause_that_google_asks_for_is_passed_on_at_once(behind: Box, google: Emulator, port: int) -> None:
    google.fail("token", times=None, status=429, headers={"Retry-After": "120"})
    with behind.daemon(), client(behind, port) as built_once:
        until(lambda: google.count("token"))
        started = time.monotonic()
        with pytest.raises(openai.InternalServerError) as busy:
            say(built_once)
        assert time.monotonic() - started < 8
        assert busy.value.status_code == 503
        assert 60 < int(busy.value.response.headers["retry-after"]) <= 120


def test_a_request_before_the_first_token_waits_for_it(behind: Box, google: Emulator, port: int) -> None:
    google.fail("token", kind="slow", delay=2.0)
    with behind.daemon(), client(behind, port) as built_once:
        assert say(built_once)
    assert google.count("token") == 1


def test_a_reload_changes_routes_and_aliases_and_drops_no_connection(behind: Box, google: Emulator, port: int) -> None:
    with behind.daemon() as process, client(behind, port) as built_once, contextlib.ExitStack() as stack:
        kept = stack.enter_context(contextlib.closing(http.client.HTTPConnection(f"127.0.0.1:{port}", timeout=30)))
        kept.connect()
        kept.auto_open = 0  # one connection for all that follows
        headers = {"Authorization": f"Bearer {local_key(behind)}", "Content-Type": "application/json"}

        def model_of(alias: str) -> tuple[int, Any]:
            body = json.dumps({"model": alias, "messages": [{"role": "user", "content": "hello"}]})
            kept.request("POST", "/v1/chat/completions", body, headers)
            answer = kept.getresponse()
            return answer.status, json.loads(answer.read()).get("model")

        assert model_of("best") == (200, "google/best")
        with ThreadPoolExecutor(1) as pool:
            streaming = pool.submit(listen, built_once, "emulator: chunks=80 delay=0.1")
            until(lambda: google.count("chat") == 2)
            configure(behind, google, port, url=google.base_url("elsewhere"), best="google/gemini-9")
            process.send_signal(signal.SIGHUP)
            until(lambda: model_of("best") == (200, "google/gemini-9"))
            assert not streaming.done()
            assert "Hello from the emulator" in streaming.result(30)
    assert "/projects/elsewhere/" in last_chat(google).path


def test_a_reload_moves_the_gateway_and_turns_it_off_and_on(behind: Box, google: Emulator, port: int) -> None:
    other = free_port()
    with behind.daemon() as process:
        until(lambda: answers(port))
        configure(behind, google, other)
        process.send_signal(signal.SIGHUP)
        until(lambda: answers(other) and not answers(port))
        until(lambda: f":{other}/v1" in behind.read("env.sh"))
        configure(behind, google, other, "enabled = false", mode="direct")
        process.send_signal(signal.SIGHUP)
        until(lambda: not answers(other))
        until(lambda: google.base_url() in behind.read("env.sh"))
        configure(behind, google, port)
        process.send_signal(signal.SIGHUP)
        until(lambda: answers(port))


def test_a_reload_shares_the_addresses_that_stay(behind: Box, google: Emulator, port: int) -> None:
    """Another spelling of the host is the same place, and a socket file moves with its gateway to another port."""
    paths = [behind.root / name for name in ("one.sock", "two.sock")]
    configure(behind, google, port, "unix_socket = 'one.sock'")
    with alone(behind, port) as process:
        versions = itertools.count()

        def reload(port: int, gateway: str, serving: Path | None, **settings: Any) -> None:
            alias = f"version-{next(versions)}"
            configure(behind, google, port, gateway, "google/gemini-9", alias, **settings)
            process.send_signal(signal.SIGHUP)
            until(lambda: answers(port) and alias.encode() in ask(port, "/v1/models", local_key(behind))[1], 30)
            until(lambda: [path for path in paths if path.exists()] == ([serving] if serving else []))
            if serving:
                with socket.socket(socket.AF_UNIX) as raw:
                    raw.connect(str(serving))
                    raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    assert raw.recv(4096).startswith(b"HTTP/1.1 200 ")
            assert "stays in force" not in behind.log

        other = free_port()
        reload(port, "host = 'localhost'\nunix_socket = 'one.sock'", paths[0])
        assert "leaves" not in behind.log
        reload(other, "unix_socket = 'one.sock'", paths[0])
        until(lambda: not answers(port))
        reload(other, "unix_socket = 'two.sock'", paths[1])
        reload(other, "", None)
        reload(other, "unix_socket = 'one.sock'", paths[0])
    assert not paths[0].exists()


def test_a_reload_to_a_taken_port_keeps_the_gateway_where_it_is(behind: Box, google: Emulator, port: int) -> None:
    with behind.daemon() as process, socket.create_server(("127.0.0.1", 0)) as taken:
        until(lambda: behind.read("env.sh"))
        configure(behind, google, taken.getsockname()[1])
        process.send_signal(signal.SIGHUP)
        until(lambda: "is in use" in json.loads(behind.vx("status", "--json").stdout)["config_error"])
        assert process.poll() is None
        assert answers(port)
        assert f":{port}/v1" in behind.read("env.sh")


def test_a_reload_to_a_taken_port_moves_the_gateway_when_the_port_is_free(
    behind: Box, google: Emulator, port: int
) -> None:
    with behind.daemon() as process:
        until(lambda: behind.read("env.sh"))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            other = taken.getsockname()[1]
            configure(behind, google, other)
            process.send_signal(signal.SIGHUP)
            until(lambda: f"stays in force: the gateway's port {other}" in behind.log)
        until(lambda: answers(other), 30, "the gateway at its new port")
        until(lambda: f":{other}/v1" in behind.read("env.sh"))
        assert not answers(port)
        assert json.loads(behind.vx("status", "--json").stdout)["config_error"] == ""


def test_a_taken_port_ends_no_refreshing_and_is_served_when_it_is_free(
    behind: Box, google: Emulator, port: int
) -> None:
    google.lifetime = 4.0
    notified: list[str] = []
    path = behind.root / "notify"
    behind.environ["NOTIFY_SOCKET"] = str(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.setblocking(False)

        def states() -> str:
            with contextlib.suppress(BlockingIOError):
                while True:
                    notified.append(manager.recv(65536).decode())
            return "\n".join(notified)

        with socket.create_server(("127.0.0.1", port)) as stranger, behind.daemon():
            sentence = f"the gateway's port {port} of 127.0.0.1 is in use"
            until(lambda: len(google.issued) >= 3, 60, "refreshes without the gateway")
            until(lambda: "READY=1" in states(), what="READY")
            assert f"gateway: {sentence}" in states()
            status = behind.vx("status")
            assert status.returncode == 1
            assert f"gateway: http://127.0.0.1:{port}/v1 is not served: {sentence}\n  hint: " in status.stdout
            assert "change `gateway.port`" in status.stdout
            doctor = json.loads(behind.vx("doctor", "--json").stdout)
            [check] = [check for check in doctor["checks"] if check["name"] == "gateway"]
            assert (check["ok"], check["detail"]) == ("fail", sentence)
            assert "change `gateway.port`" in check["hint"]
            stranger.close()
            until(lambda: answers(port), 30, "the gateway")
            until(lambda: json.loads(behind.vx("status", "--json").stdout)["gateway"].get("requests"))
            until(lambda: "gateway: " not in states().rpartition("STATUS=")[2], what="a status without it")
    assert behind.log.count("is in use") == 1
    assert behind.log.count("the gateway listens at") == 1


def test_alone_a_taken_port_ends_with_3_and_a_sentence(behind: Box, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        done = behind.vx("gateway")
    assert done.returncode == 3
    assert done.stderr.splitlines()[-2:] == [
        f"vx-token: the gateway's port {port} of 127.0.0.1 is in use",
        "hint: stop the program that uses it, or change `gateway.port` in the configuration",
    ]
    assert not behind.read("env.sh")


def test_a_google_token_in_place_of_the_key_is_answered_by_the_command_to_use(
    behind: Box, google: Emulator, port: int
) -> None:
    with alone(behind, port):
        until(lambda: google.issued)
        token = behind.vx("print").stdout.strip()
        for key, expected in ((token, True), ("ya29.of-another-day", True), ("sk-of-another-provider", False)):
            status, body = ask(port, "/v1/models", key)
            assert (status, b"use: vx-token gateway key" in body) == (401, expected)
        done = behind.vx("gateway", "key")
        assert (done.stdout.count("\n"), done.stderr) == (1, "")
        assert ask(port, "/v1/models", done.stdout.strip())[0] == 200


def test_metrics_need_the_key_unless_configured(behind: Box, google: Emulator, port: int) -> None:
    with alone(behind, port) as process:
        assert ask(port, "/metrics")[0] == 401
        assert ask(port, "/metrics", local_key(behind))[0] == 200
        configure(behind, google, port, "metrics_open = true")
        process.send_signal(signal.SIGHUP)
        until(lambda: ask(port, "/metrics")[0] == 200)


def test_doctor_names_the_key_command_of_gateway_mode(behind: Box, google: Emulator, port: int) -> None:
    with alone(behind, port):
        checks = {check["name"]: check for check in json.loads(behind.vx("doctor", "--json").stdout)["checks"]}
        assert checks["gateway"]["ok"] == "ok"
        assert "vx-token gateway key" in checks["gateway"]["hint"]
        configure(behind, google, port, mode="direct")
        assert "gateway key" not in behind.vx("doctor").stdout


def test_the_gateway_serves_alone(behind: Box, google: Emulator, port: int) -> None:
    with alone(behind, port) as process, client(behind, port) as built_once:
        assert say(built_once)
        assert listen(built_once)
        configure(behind, google, port, best="google/gemini-9")
        process.send_signal(signal.SIGHUP)
        until(lambda: b"best" in ask(port, "/v1/models", local_key(behind))[1])
        behind.config.write_text("nonsense")
        process.send_signal(signal.SIGHUP)
        until(lambda: "the last good configuration stays in force" in behind.log)
        assert say(built_once, model="best")
        process.terminate()
        assert process.wait(30) == 0


def test_alone_it_becomes_ready_without_a_request_and_again_after_a_tokens_end(
    behind: Box, google: Emulator, port: int
) -> None:
    configure(behind, google, port, refresh_margin="1s")  # else a token of few seconds is renewed by the next look
    google.lifetime = 8.0
    with alone(behind, port):
        until(lambda: ask(port, "/readyz")[0] == 200)
        google.lifetime = 3600.0
        until(lambda: time.time() > google.issued[0].expires_at)
        until(lambda: ask(port, "/readyz")[0] == 200)
    assert len(google.issued) == 2


def test_alone_it_renews_a_token_before_its_end(behind: Box, google: Emulator, port: int) -> None:
    google.lifetime = 12.0
    with alone(behind, port), client(behind, port) as built_once:
        while len(google.issued) < 3:
            assert say(built_once)
            time.sleep(0.1)  # requests must come in, but need not keep the processor busy
    first, second, third = google.issued[:3]
    assert first.issued_at + 1 < second.issued_at < first.expires_at - 1
    assert second.issued_at + 1 < third.issued_at < second.expires_at - 1


def test_alone_on_another_port(behind: Box, port: int) -> None:
    other = free_port()
    with alone(behind, other, "--port", str(other), "--access-log"), client(behind, other) as built_once:
        assert say(built_once)
        until(lambda: "POST gemini/chat/completions 200" in behind.log)
        assert not answers(port)


def test_a_rotated_key_reaches_the_shells_at_once_and_the_old_one_has_its_grace(behind: Box, port: int) -> None:
    with behind.daemon():
        until(lambda: behind.read("env.sh"))
        old = local_key(behind)
        done = behind.vx("gateway", "rotate-key", "--grace", "1h")
        assert done.stdout.startswith("created a new local key; the old one stays valid until ")
        new = local_key(behind)
        assert f"export OPENAI_API_KEY='{new}'" in behind.read("env.sh")
        assert [ask(port, "/v1/models", key)[0] for key in (old, new)] == [200, 200]
        behind.vx("gateway", "rotate-key", "--grace", "2s")
        until(lambda: ask(port, "/v1/models", new)[0] == 401)
        newer = local_key(behind)
        behind.vx("gateway", "rotate-key", "--grace", "0s")
        assert [ask(port, "/v1/models", key)[0] for key in (newer, local_key(behind))] == [401, 200]
    assert not {old, new, newer} & set(behind.log.split())


ONE_REQUEST = """
import os, openai
with openai.OpenAI(max_retries=0) as client:
    answer = client.chat.completions.create(model="MODEL", messages=[{"role": "user", "content": "hello"}])
print(os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"], answer.choices[0].message.content)
""".replace("MODEL", MODEL)


@pytest.mark.parametrize("mode", ["direct", "gateway"])
def test_exec_serves_a_command_from_a_gateway_of_its_own(behind: Box, google: Emulator, port: int, mode: str) -> None:
    configure(behind, google, port, mode=mode, export=["MY_KEY={token}", "MY_URL={base_url}"])
    with behind.daemon():  # whose port is another one
        done = behind.vx("exec", "--gateway", "--", sys.executable, "-c", ONE_REQUEST)
    assert (done.returncode, done.stderr) == (0, "")
    url, key, text = done.stdout.split(" ", 2)
    assert url.startswith("http://127.0.0.1:")
    assert url.endswith("/v1")
    assert str(port) not in url
    assert key.startswith("vx-local-")
    assert key != local_key(behind)  # it ends with the command
    assert text.startswith("Hello from the emulator")
    own = json.loads(behind.vx("exec", "--gateway", "--", sys.executable, "-c", DUMP).stdout)
    assert (own["MY_KEY"], own["MY_URL"]) == (own["OPENAI_API_KEY"], own["OPENAI_BASE_URL"])
    assert own["MY_KEY"] not in {key, local_key(behind)}
    assert not [name for name, value in own.items() if any(issued.value in value for issued in google.issued)]


def test_exec_in_gateway_mode_serves_its_command_where_no_gateway_of_ours_answers(
    behind: Box, google: Emulator, port: int
) -> None:
    def served() -> str:
        done = behind.vx("exec", sys.executable, "-c", ONE_REQUEST)
        assert (done.returncode, done.stderr) == (0, "")
        url, key, text = done.stdout.split(" ", 2)
        assert (key == local_key(behind)) == (f":{port}/" in url)  # a gateway of its own has a key of its own
        assert text.startswith("Hello from the emulator")
        return url

    assert f":{port}/" not in served()
    with socket.create_server(("127.0.0.1", port)):  # another program of the same user, which does not respond
        assert f":{port}/" not in served()
    with behind.daemon():
        until(lambda: answers(port))
        assert served() == f"http://127.0.0.1:{port}/v1"


DUMP = "import json, os; print(json.dumps(dict(os.environ)))"


def test_a_key_that_cannot_be_kept_is_an_error_with_a_hint(behind: Box) -> None:
    del behind.environ["VX_TOKEN_CONFIG"]
    behind.environ |= {"XDG_STATE_HOME": os.devnull, "GOOGLE_CLOUD_PROJECT": "demo"}
    for verb in ("key", "rotate-key"):
        done = behind.vx("gateway", verb)
        assert (done.returncode, done.stderr.count("hint: ")) == (3, 1), done.stderr


def test_exec_with_a_gateway_passes_the_exit_status_on(behind: Box) -> None:
    def status(*command: str) -> int:
        return behind.vx("exec", "--gateway", "--", *command).returncode

    assert status("sh", "-c", "exit 7") == 7
    assert status("sh", "-c", "kill -KILL $$") == 128 + signal.SIGKILL
    assert status("no-such-command") == 127
    assert status(str(behind.config)) == 126


@pytest.mark.parametrize("name", ["TERM", "HUP", "USR1", "INT", "QUIT"])
def test_exec_with_a_gateway_passes_signals_on(behind: Box, name: str) -> None:
    ready = behind.root / "ready"
    script = f"trap 'exit 9' {name}; echo > {ready}; while :; do sleep 0.05; done"
    with behind.fork("exec", "--gateway", "--", "sh", "-c", script) as process:
        until(ready.exists)
        process.send_signal(getattr(signal, f"SIG{name}"))
        assert process.wait(10) == 9


COUNTING = """
import pathlib, signal, sys, time
got = []
signal.signal(signal.SIGINT, lambda *_: got.append(1))
print("ready", flush=True)
while not got:
    time.sleep(0.01)
pathlib.Path(sys.argv[1]).touch()
time.sleep(0.3)
sys.exit(len(got))
"""


LONG_LIVED = """
import time, openai
end = time.monotonic() + 8
with openai.OpenAI(max_retries=0) as client:
    while time.monotonic() < end:
        client.chat.completions.create(model="MODEL", messages=[{"role": "user", "content": "hello"}])
        time.sleep(0.2)
""".replace("MODEL", MODEL)


def test_a_program_started_by_exec_with_a_gateway_outlives_its_tokens(behind: Box, google: Emulator) -> None:
    google.lifetime = 3.0
    done = behind.vx("exec", "--gateway", "--", sys.executable, "-c", LONG_LIVED)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(google.issued) >= 3
    assert {seen.status for seen in google.requests if seen.route == "chat"} == {200}


def test_exec_with_a_gateway_leaves_the_terminals_interrupt_to_the_command(behind: Box) -> None:
    """The terminal signals the whole foreground group, so `exec` must not send the command a second signal."""
    got = behind.root / "got"
    argv = behind.command("exec", "--gateway", "--", sys.executable, "-c", COUNTING, str(got))
    process = pexpect.spawn(argv[0], argv[1:], env=behind.environ, cwd=behind.root, timeout=20)
    with contextlib.closing(process):
        process.expect_exact("ready")
        process.sendintr()
        until(got.exists)
        assert process.wait() == 1


def test_exec_with_a_gateway_leaves_no_signal_ignored(behind: Box) -> None:
    done = behind.vx("exec", "--gateway", "--", "bash", "-c", "yes | head -n1; echo ${PIPESTATUS[@]}")
    assert (done.returncode, done.stdout) == (0, "y\n141 0\n")


def test_exec_with_a_gateway_needs_a_login(behind: Box, google: Emulator) -> None:
    google.revoke_identity(google.authorized_user(behind.key), reauth=True)
    done = behind.vx("exec", "--gateway", "--", "touch", str(behind.root / "started"))
    assert done.returncode == 4
    assert "gcloud auth application-default login" in done.stderr
    assert not (behind.root / "started").exists()


def test_loopback_goes_past_a_proxy(behind: Box) -> None:
    behind.refresh()
    behind.environ |= {"HTTP_PROXY": "http://proxy.invalid:1", "NO_PROXY": "intranet"}
    own = json.loads(behind.vx("exec", "--gateway", "--", sys.executable, "-c", DUMP).stdout)
    for variables in (own, exported(behind)):
        assert variables["NO_PROXY"] == variables["no_proxy"] == "intranet,127.0.0.1,localhost"
    behind.environ["NO_PROXY"] = "*"
    variables = exported(behind)
    assert "NO_PROXY" not in variables
    assert variables["no_proxy"] == "*"


LOOPBACK = "127.0.0.1,localhost"


def test_the_other_loopback_goes_past_a_proxy_too(behind: Box, google: Emulator, port: int) -> None:
    configure(behind, google, port, "host = '::1'")
    behind.refresh()
    behind.environ |= {"HTTP_PROXY": "http://proxy.invalid:1", "NO_PROXY": "intranet"}
    variables = exported(behind)
    assert variables["OPENAI_BASE_URL"] == f"http://[::1]:{port}/v1"
    assert variables["NO_PROXY"] == variables["no_proxy"] == "intranet,::1,127.0.0.1,localhost"


def test_the_exported_address_is_the_bound_one(behind: Box, google: Emulator, port: int) -> None:
    """Not a name: another user could listen on the other address that `localhost` has."""
    configure(behind, google, port, "host = 'localhost'")
    with behind.daemon():
        until(lambda: behind.read("env.sh"))
        variables = exported(behind)
        assert {variables[name] for name in NAMES} == {f"http://127.0.0.1:{port}/v1"}
        assert f"export OPENAI_BASE_URL='http://127.0.0.1:{port}/v1'" in behind.read("env.sh").splitlines()
        assert behind.vx("exec", "--", "printenv", "OPENAI_BASE_URL").stdout == f"http://127.0.0.1:{port}/v1\n"


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ({"NO_PROXY": "a", "no_proxy": "b"}, {"NO_PROXY": f"a,{LOOPBACK}", "no_proxy": f"b,{LOOPBACK}"}),
        ({"NO_PROXY": " a, ,c,"}, {"NO_PROXY": f"a,c,{LOOPBACK}", "no_proxy": f"a,c,{LOOPBACK}"}),
        ({"no_proxy": "b"}, {"NO_PROXY": f"b,{LOOPBACK}", "no_proxy": f"b,{LOOPBACK}"}),
        ({}, {"NO_PROXY": LOOPBACK, "no_proxy": LOOPBACK}),
        ({"NO_PROXY": "", "no_proxy": "b"}, {"NO_PROXY": LOOPBACK, "no_proxy": f"b,{LOOPBACK}"}),
        ({"NO_PROXY": "*", "no_proxy": "b"}, {"no_proxy": f"b,{LOOPBACK}"}),
        ({"NO_PROXY": "a", "no_proxy": "x, 127.0.0.1"}, {"NO_PROXY": f"a,{LOOPBACK}"}),
        ({"NO_PROXY": "a,*"}, {"NO_PROXY": f"a,*,{LOOPBACK}", "no_proxy": f"a,*,{LOOPBACK}"}),
    ],
    ids=str,
)
def test_each_list_of_what_goes_past_a_proxy_keeps_its_own_names(
    behind: Box, listed: dict[str, str], expected: dict[str, str]
) -> None:
    behind.refresh()
    behind.environ |= {"http_proxy": "http://proxy.invalid:1", **listed}
    own = json.loads(behind.vx("exec", "--gateway", "--", sys.executable, "-c", DUMP).stdout)
    variables = exported(behind)
    assert {name: variables[name] for name in ("NO_PROXY", "no_proxy") if name in variables} == expected
    assert {name: own[name] for name in ("NO_PROXY", "no_proxy")} == {**listed, **expected}


def test_status_shows_the_gateway(behind: Box, google: Emulator, port: int) -> None:
    behind.executed = True  # its memory is all its own
    with behind.daemon() as process, client(behind, port) as built_once:
        say(built_once)
        assert psutil.Process(process.pid).memory_info().rss < 60 << 20
        google.fail("chat", status=429)
        with pytest.raises(openai.RateLimitError):
            say(built_once)
        gateway = json.loads(behind.vx("status", "--json").stdout)["gateway"]
        assert gateway["address"] == f"http://127.0.0.1:{port}/v1"
        assert (gateway["requests"], gateway["errors"], gateway["in_flight"]) == (2, 1, 0)
        assert gateway["tokens_per_minute"] > 0
        assert gateway["verified"] is Path("/proc/net/tcp").exists()
        text = behind.vx("status").stdout
        assert f"gateway: http://127.0.0.1:{port}/v1, " in text
        assert " requests, 1 errors, " in text
        assert local_key(behind) not in text


def test_status_shows_a_gateway_without_a_daemon(behind: Box, google: Emulator, port: int) -> None:
    configure(behind, google, port, mode="direct")

    def gateway_line() -> str:
        return behind.vx("status").stdout.splitlines()[-1]

    assert gateway_line() == f"gateway: http://127.0.0.1:{port}/v1 does not answer"
    assert not (behind.root / "gateway.key").exists()
    with alone(behind, port):
        assert gateway_line().startswith(f"gateway: http://127.0.0.1:{port}/v1, 1 requests, ")
        (behind.root / "gateway.key").write_text("nonsense")
        assert f"{port}/v1 cannot be queried: " in gateway_line()


# Changes its user before it listens; prints the bytes received, and responds with its stdin.
SQUATTER = """
import base64, os, socket, sys
port, uid, answer = int(sys.argv[1]), int(sys.argv[2]), base64.b64decode(sys.argv[3])
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
listening = socket.create_server(("127.0.0.1", port))
print("listening", flush=True)
while True:
    connection, _ = listening.accept()
    connection.settimeout(2)
    try:
        print(base64.b64encode(connection.recv(65536)).decode(), flush=True)
        connection.sendall(answer)
    except OSError:
        pass
    connection.close()
"""


@contextlib.contextmanager
def squatter(port: int, uid: int, answer: bytes) -> Iterator[Callable[[], bytes]]:
    """A program of the user `uid` on the gateway's port; yields a function that returns all bytes it received."""
    argv = [sys.executable, "-I", "-c", SQUATTER, str(port), str(uid), base64.b64encode(answer).decode()]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"

        def received() -> bytes:
            process.kill()
            assert process.stdout is not None
            return b"".join(map(base64.b64decode, process.stdout.read().split()))

        try:
            yield received
        finally:
            process.kill()


def http_answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + body


GOOD = b'{"requests": 1, "errors": 0, "in_flight": 1, "tokens_per_minute": 0, "started_at": 1.5}'
NOBODY = 65534


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a program of another user")
def test_another_user_on_the_port_gets_neither_key_nor_prompt(behind: Box, google: Emulator, port: int) -> None:
    key = local_key(behind)
    with squatter(port, NOBODY, http_answer(GOOD)) as received:
        line = f"gateway: http://127.0.0.1:{port}/v1 belongs to another user (uid {NOBODY}); no key was sent"
        assert behind.vx("status").stdout.splitlines()[-1] == line
        assert "requests" not in json.loads(behind.vx("status", "--json").stdout)["gateway"]
        done = behind.vx("exec", "--", sys.executable, "-c", ONE_REQUEST)
        assert done.returncode == 0, done.stderr
        url = done.stdout.split(" ")[0]
        assert url.startswith("http://127.0.0.1:")
        assert f":{port}/" not in url
        assert f"another user (uid {NOBODY}) listens at http://127.0.0.1:{port}/v1" in done.stderr
        assert f"another user (uid {NOBODY}) listens on port {port}" in behind.vx("doctor").stdout
        assert key.encode() not in received()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x1b]0;title\x07\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 \x1b[31m\r\n\r\n{}",
        *map(
            http_answer,
            [
                b"null",
                b"[]",
                b"{}",
                b'{"requests": "\\u001b[31mred"}',
                GOOD.replace(b'"errors": 0', b'"errors": "\\u001b[2J"'),
                GOOD.replace(b'"in_flight": 1', b'"in_flight": null'),
                GOOD.replace(b', "tokens_per_minute": 0', b""),
                GOOD.replace(b"1.5", b"NaN"),
                GOOD.replace(b'"requests": 1', b'"requests": ' + b"9" * 5000),
                b"[" * 60_000,
                b" " * 80_000,
            ],
        ),
    ],
)
def test_nothing_that_another_program_answers_is_printed(behind: Box, port: int, answer: bytes) -> None:
    with squatter(port, os.geteuid(), answer):
        done = behind.vx("status")
        line = f"gateway: http://127.0.0.1:{port}/v1 is not a vx-token gateway"
        assert (done.stdout.splitlines()[-1], done.stderr) == (line, "")
        assert done.stdout.replace("\n", "").isprintable()


def test_a_program_that_drips_its_answer_does_not_hold_status_up(behind: Box, port: int) -> None:
    over = threading.Event()

    def drip() -> None:
        for _ in range(2):
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                while not over.wait(0.1):
                    connection.sendall(b"H")

    with socket.create_server(("127.0.0.1", port)) as listening, ThreadPoolExecutor(1) as pool:
        pool.submit(drip)
        try:
            assert "is not a vx-token gateway" in behind.vx("status", timeout=20).stdout
            assert f"another program listens on port {port}" in behind.vx("doctor", timeout=20).stdout
        finally:
            over.set()


def test_exec_starts_a_gateway_where_none_listens(behind: Box, google: Emulator, port: int) -> None:
    done = behind.vx("exec", "--", sys.executable, "-c", ONE_REQUEST)
    assert (done.returncode, done.stderr) == (0, "")
    url, key, text = done.stdout.split(" ", 2)
    assert f":{port}/" not in url
    assert key.startswith("vx-local-")
    assert text.startswith("Hello from the emulator")
    with behind.daemon():
        until(lambda: answers(port))
        assert behind.vx("exec", "--", "printenv", "OPENAI_BASE_URL").stdout == f"http://127.0.0.1:{port}/v1\n"


def test_status_of_a_daemon_without_a_gateway_shows_none(signed_in: Box) -> None:
    with signed_in.daemon():
        assert json.loads(signed_in.vx("status", "--json").stdout)["gateway"] is None
        assert "gateway" not in signed_in.vx("status").stdout


def test_a_unix_socket_is_served_privately(behind: Box, google: Emulator, port: int) -> None:
    path = behind.root / "gateway.sock"
    configure(behind, google, port, f'unix_socket = "{path}"')
    with behind.daemon():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with openai.OpenAI(
            base_url="http://localhost/v1",
            api_key=local_key(behind),
            max_retries=0,
            http_client=openai.DefaultHttpxClient(transport=transport(path)),
        ) as built_once:
            assert say(built_once)
        assert behind.vx("exec", "--gateway", "--", "true").returncode == 0


def transport(path: Path) -> Any:
    """The HTTP library's own way to a Unix socket."""
    base = openai.DefaultHttpxClient.__mro__[-2].__module__.partition(".")[0]
    return importlib.import_module(base).HTTPTransport(uds=str(path))


def test_each_profile_has_its_own_path(behind: Box, google: Emulator, port: int) -> None:
    second = behind.root / "second.json"
    other = google.service_account(second)
    behind.config.write_text('default_profile = "gemini"\n' + behind.config.read_text())
    behind.profile("other", url=google.base_url("second"), mode="gateway", credentials=str(second))
    with behind.daemon():
        with client(behind, port, "other") as built_once:
            assert say(built_once)
        assert last_chat(google).identity == other
        variables = exported(behind, "--profile", "other")
        assert variables["OPENAI_BASE_URL"] == f"http://127.0.0.1:{port}/other/v1"
        done = behind.vx("exec", "--profile", "other", "--gateway", "--", sys.executable, "-c", ONE_REQUEST)
        assert "/other/v1 " in done.stdout
        assert other in done.stdout


def test_the_flag_serves_what_is_not_configured(signed_in: Box, google: Emulator, port: int) -> None:
    configure(signed_in, google, port, "enabled = false", mode="direct")
    with signed_in.daemon("--gateway"), client(signed_in, port) as built_once:
        assert say(built_once)
        assert exported(signed_in)["OPENAI_BASE_URL"] == google.base_url()


@pytest.mark.parametrize("missing", ["aiohttp", "prometheus_client"])
def test_without_the_extra_the_hint_says_how_to_install_it(behind: Box, google: Emulator, missing: str) -> None:
    gone = behind.root / "gone"
    gone.mkdir()
    (gone / f"{missing}.py").write_text(f"raise ModuleNotFoundError('none', name='{missing}')\n")
    behind.environ["PYTHONPATH"] = f"{gone}:{behind.environ['PYTHONPATH']}"
    for words in (["run"], ["gateway"], ["exec", "--gateway", "true"]):
        done = behind.vx(*words)
        assert done.returncode == 3
        message, hint = done.stderr.splitlines()[-2:]
        assert message == f"vx-token: the gateway needs {missing}"
        assert hint.startswith("hint: run: ")
        assert "aiohttp" in hint
    assert behind.vx("print").returncode == 0


def test_a_daemon_without_a_gateway_loads_none_of_its_libraries(signed_in: Box) -> None:
    def loaded(*words: str) -> set[str]:
        argv = [sys.executable, "-X", "importtime", *signed_in.command("run", *words)[1:]]
        log = signed_in.root / "imports.log"
        with log.open("w") as stderr, subprocess.Popen(argv, env=signed_in.environ, stderr=stderr) as process:
            try:
                until(lambda: " fresh token of " in log.read_text())
            finally:
                process.terminate()
        lines = [line for line in log.read_text().splitlines() if line.startswith("import time:")]
        return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}

    heavy = {"aiohttp", "asyncio", "prometheus_client", "ssl", "google"}
    assert not heavy & loaded()
    signed_in.config.write_text(f"[gateway]\nport = {free_port()}\n" + signed_in.config.read_text())
    assert heavy & loaded() == heavy - {"google"}


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_file_that_is_none_ends_with_3(
    behind: Box, google: Emulator, port: int, content: str | None
) -> None:
    path = behind.root / "authority.pem"
    if content is not None:
        path.write_text(content)
    configure(behind, google, port, 'ca_file = "authority.pem"')
    done = behind.vx("run")
    assert done.returncode == 3
    assert f"vx-token: cannot use {path}: " in done.stderr


ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextlib.contextmanager
def activated(box: Box, held: socket.socket) -> Iterator["subprocess.Popen[str]"]:
    """A daemon that is handed a listening socket as systemd does it, from its start to its end."""
    argv = [sys.executable, "-c", ACTIVATE, str(held.fileno()), *box.command("run")]
    with (
        (box.root / "daemon.log").open("a") as log,
        subprocess.Popen(argv, env=box.environ, stderr=log, pass_fds=[held.fileno()], text=True) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(30) == 0, box.log


def test_a_client_notices_nothing_of_five_restarts_under_socket_activation(behind: Box, google: Emulator) -> None:
    google.lifetime = 5.0
    with socket.create_server(("127.0.0.1", 0), backlog=128) as held, ThreadPoolExecutor(1) as pool:
        port = held.getsockname()[1]
        configure(behind, google, port)
        enough = threading.Event()

        def load() -> int:
            rounds = 0
            with client(behind, port) as built_once:
                while not enough.is_set():
                    say(built_once)
                    listen(built_once, "emulator: chunks=5 delay=0.01")
                    rounds += 1
            return rounds

        working = pool.submit(load)

        def some_more(goal: int) -> None:
            until(lambda: working.done() or google.count("chat", 200) > goal, 30)

        for _ in range(5):
            with activated(behind, held):
                some_more(google.count("chat", 200) + 4)
        with activated(behind, held):
            enough.set()
            assert working.result(30) > 10
    assert {seen.status for seen in google.requests if seen.route == "chat"} == {200}
    assert "error" not in behind.log


def test_the_manager_may_start_the_daemon_at_the_first_connection(
    behind: Box, google: Emulator, port: int, require: Callable[[str], str]
) -> None:
    configure(behind, google, port, "enabled = false", mode="direct")  # the socket alone asks for the gateway
    wait = [require("systemd-socket-activate"), "--listen", f"127.0.0.1:{port}"]
    passed = [f"--setenv={name}={value}" for name, value in behind.environ.items()]
    with (behind.root / "daemon.log").open("w") as log:
        argv = [*wait, *passed, *behind.command("run")]
        with subprocess.Popen(argv, env=behind.environ, stderr=log) as process:
            try:
                until(lambda: "Listening on" in behind.log)
                with client(behind, port) as built_once:
                    assert say(built_once)
            finally:
                process.terminate()
                assert process.wait(30) == 0
    assert f"the gateway listens at http://127.0.0.1:{port}/v1" in behind.log


def test_a_reload_takes_other_certificates_on_sockets_of_the_managers(behind: Box, google: Emulator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        configure(behind, google, port)
        with activated(behind, held) as process:
            until(lambda: answers(port))
            trustme.CA().cert_pem.write_to_path(str(behind.root / "ca.pem"))
            configure(behind, google, port, "ca_file = 'ca.pem'")
            process.send_signal(signal.SIGHUP)
            until(lambda: "the gateway stops listening at " in behind.log)
            assert answers(port)


def test_a_socket_at_another_place_than_tools_are_sent_to_is_told(behind: Box, port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held, activated(behind, held):
        until(lambda: f"tools use the gateway at http://127.0.0.1:{port}/v1" in behind.log)


def test_a_socket_open_to_other_machines_is_refused(behind: Box) -> None:
    with socket.create_server(("0.0.0.0", 0)) as held:
        argv = [sys.executable, "-c", ACTIVATE, str(held.fileno()), *behind.command("run")]
        done = subprocess.run(
            argv, env=behind.environ, pass_fds=[held.fileno()], capture_output=True, text=True, timeout=30, check=False
        )
    assert done.returncode == 3
    assert "listens on 0.0.0.0, which gateway.listen does not name" in done.stderr


@pytest.fixture
def node(request: pytest.FixtureRequest, require: Callable[[str], str]) -> list[str]:
    """A Node program that is built once and asks, plainly and streaming in turn, until its stdin ends."""
    folder = Path(request.config.cache.mkdir("openai-node"))
    if not (folder / "node_modules/openai/package.json").exists():
        npm = [require("npm"), "install", "--prefix", str(folder), "--no-audit", "--no-fund", "openai@6"]
        done = subprocess.run(npm, capture_output=True, text=True, timeout=100, check=False)
        if done.returncode:
            (pytest.fail if os.environ.get("VX_TOKEN_STRICT") else pytest.skip)(f"npm: {done.stderr[-500:]}")
    script = folder / "client.mjs"
    script.write_text(NODE)
    return [require("node"), str(script)]


NODE = """
import OpenAI from "openai";
const client = new OpenAI({maxRetries: 0});
const ask = {model: process.env.MODEL, messages: [{role: "user", content: "hello"}]};
let running = true, good = 0;
process.stdin.on("end", () => { running = false; }).resume();
while (running) {
    const plain = await client.chat.completions.create(ask);
    let streamed = "";
    for await (const chunk of await client.chat.completions.create({...ask, stream: true}))
        streamed += chunk.choices[0]?.delta?.content ?? "";
    if (!plain.choices[0].message.content.startsWith("Hello") || !streamed.startsWith("Hello")) throw new Error("cut");
    good += 2;
}
console.log(good);
"""


@pytest.mark.slow
def test_one_node_client_outlives_many_tokens(behind: Box, google: Emulator, port: int, node: list[str]) -> None:
    google.lifetime = 2.0
    google.fail("token", times=None, probability=0.1, seed=3)
    with behind.daemon():
        until(lambda: behind.read("env.sh"))
        environ = behind.environ | exported(behind) | {"MODEL": MODEL}
        with subprocess.Popen(node, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            until(lambda: len(google.issued) > 6 or process.poll() is not None, 60)
            printed, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert int(printed) == google.count("chat") == google.count("chat", 200) > 20
