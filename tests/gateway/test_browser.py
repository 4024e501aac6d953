"""A hostile page in a real browser neither reaches upstream through the gateway nor reads a byte of its answers."""

import contextlib
import http.server
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import until
from upstreams import KEY, Purse, Upstream, front
from vx_token.gateway.settings import Route

PAGE = """<!doctype html><meta charset="utf-8"><title>hostile</title><script>
const attempts = %(attempts)s;
const results = {};
function timed(promise) {
  return Promise.race([promise, new Promise(done => setTimeout(() => done("nothing in 20 s"), 20000))]);
}
function loaded(tag, property, url, more) {
  return new Promise(done => {
    const it = Object.assign(document.createElement(tag), more || {});
    it.onload = () => done("READ " + (it.naturalWidth || tag));
    it.onerror = () => done("error");
    it[property] = url;
    document.documentElement.appendChild(it);
  });
}
function socket(url) {
  return new Promise(done => {
    const it = new WebSocket(url.replace("http", "ws"));
    it.onopen = () => done("READ open");
    it.onerror = () => done("error");
  });
}
function events(url) {
  return new Promise(done => {
    const it = new EventSource(url);
    it.onopen = it.onmessage = () => done("READ open");
    it.onerror = () => { it.close(); done("error"); };
  });
}
function framed(url) {
  return new Promise(done => {
    const it = document.createElement("iframe");
    it.onload = () => {
      try { done("READ " + it.contentWindow.document.body.innerText); } catch (error) { done("closed"); }
    };
    it.src = url;
    document.documentElement.appendChild(it);
  });
}
function submitted(url, encoding) {
  const frame = Object.assign(document.createElement("iframe"), {name: "frame" + Math.random()});
  const form = Object.assign(document.createElement("form"), {
    action: url, method: "post", target: frame.name, enctype: encoding});
  form.appendChild(Object.assign(document.createElement("textarea"), {name: '{"model":"x","a":"', value: '"}'}));
  document.documentElement.append(frame, form);
  return new Promise(done => { frame.onload = () => done("sent"); form.submit(); });
}
async function read(url, options) {
  try {
    const answer = await fetch(url, options);
    return (answer.type === "opaque" ? "opaque" : "READ " + answer.status + (await answer.text()).slice(0, 40));
  } catch (error) { return "error"; }
}
const kinds = {
  fetch: read, image: url => loaded("img", "src", url), script: url => loaded("script", "src", url),
  style: url => loaded("link", "href", url, {rel: "stylesheet"}), video: url => loaded("video", "src", url),
  object: url => loaded("object", "data", url), frame: framed, form: submitted, socket: socket, events: events,
  beacon: async url => navigator.sendBeacon(url, "{}") ? "sent" : "error",
};
(async () => {
  await Promise.all(attempts.map(async ([name, kind, url, options]) => {
    results[name] = await timed(kinds[kind](url, options));
  }));
  await fetch("/results", {method: "POST", body: JSON.stringify(results)});
})();
</script>"""


pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class HostileSite:
    """A web site on loopback that serves one page, and gets the page's results."""

    def __init__(self) -> None:
        self.page = b""
        self.results: dict[str, str] = {}
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(site.page)

            def do_POST(self) -> None:
                site.results = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Stay silent."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def site() -> Iterator[HostileSite]:
    hostile = HostileSite()
    yield hostile
    hostile.server.shutdown()
    hostile.server.server_close()


@pytest.fixture
def browser(require: Callable[[str], str], tmp_path: Path) -> Callable[[str, Callable[[], object]], None]:
    """Open a page in a headless browser until `done`; `evil.example` is this machine, as after rebinding."""
    program = require("chromium")

    def visit(url: str, done: Callable[[], object]) -> None:
        options = ["--headless", "--disable-gpu", "--no-first-run", f"--user-data-dir={tmp_path}/browser"]
        options += [
            "--host-resolver-rules=MAP *.example 127.0.0.1",
            "--disable-background-networking",
            "--no-proxy-server",
        ]
        options += ["--no-sandbox"] if os.geteuid() == 0 else []
        environ = {**os.environ, "HOME": str(tmp_path)}
        with (tmp_path / "browser.log").open("wb") as log:
            argv = [program, *options, "--remote-debugging-port=0", url]
            process = subprocess.Popen(argv, env=environ, stdout=log, stderr=log, start_new_session=True)
            try:
                until(lambda: done() or process.poll() is not None, 90, "the page's results")
            finally:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                process.kill()
                process.wait(20)

    return visit


def attempts(port: int) -> list[tuple[str, str, str, object]]:
    """Every way in which a page can send a request, for each name and path of the gateway."""
    bearer = {"Authorization": f"Bearer {KEY}"}
    found: list[tuple[str, str, str, object]] = []
    for host in ("127.0.0.1", "localhost", "rebound.example"):
        base = f"http://{host}:{port}"
        for path in ("/v1/models", "/healthz", "/metrics", "/statusz"):
            kinds = ("fetch", "image", "script", "frame")
            found += [(f"{kind} {base}{path}", kind, f"{base}{path}", {}) for kind in kinds]
        chat = f"{base}/v1/chat/completions"
        found += [
            (f"no-cors {chat}", "fetch", chat, {"method": "POST", "mode": "no-cors", "body": "{}"}),
            (f"simple {chat}", "fetch", chat, {"method": "POST", "body": "{}"}),
            (f"with the key {chat}", "fetch", chat, {"method": "POST", "body": "{}", "headers": bearer}),
            (
                f"json {chat}",
                "fetch",
                chat,
                {"method": "POST", "body": "{}", "headers": {"Content-Type": "application/json"}},
            ),
            (f"cookies {chat}", "fetch", chat, {"method": "POST", "body": "{}", "credentials": "include"}),
            (f"private {chat}", "fetch", chat, {"targetAddressSpace": "loopback", "headers": bearer}),
            (f"no referrer {chat}", "fetch", chat, {"mode": "no-cors", "referrerPolicy": "no-referrer"}),
            (f"key in the URL {chat}", "image", f"{chat}?key={KEY}", {}),
            (f"delete {base}", "fetch", f"{base}/v1/x", {"method": "DELETE", "headers": bearer}),
            (f"form {chat}", "form", chat, "text/plain"),
            (f"multipart form {chat}", "form", chat, "multipart/form-data"),
            (f"style {base}", "style", f"{base}/v1/models", {}),
            (f"video {base}", "video", f"{base}/v1/models", {}),
            (f"object {base}", "object", f"{base}/v1/models", {}),
            (f"web socket {base}", "socket", f"{base}/v1/realtime", {}),
            (f"events {base}", "events", f"{base}/v1/chat/completions", {}),
            (f"beacon {chat}", "beacon", chat, {}),
        ]
    return found


def test_a_hostile_page_reaches_nothing_and_reads_nothing(
    site: HostileSite,
    server: Upstream,
    browser: Callable[[str, Callable[[], object]], None],
    record_property: Callable[[str, object], None],
) -> None:
    with front(Purse(), Route("p", server.url)) as proxy:
        tried = attempts(proxy.port)
        site.page = (PAGE % {"attempts": json.dumps(tried)}).encode()
        browser(f"http://evil.example:{site.port}/", lambda: site.results)
    assert site.results.keys() == {name for name, *_ in tried}
    assert {name: said for name, said in site.results.items() if said.startswith("READ") and "object" not in name} == {}
    assert server.seen == []
    record_property("attempts of a page", len(tried))


def test_an_allowed_page_reads_so_the_hostile_one_could_have(
    site: HostileSite, server: Upstream, browser: Callable[[str, Callable[[], object]], None]
) -> None:
    origin = f"http://friend.example:{site.port}"
    with front(Purse(), Route("p", server.url), origins=(origin,)) as proxy:
        url, bearer = f"http://127.0.0.1:{proxy.port}/v1/x", {"Authorization": f"Bearer {KEY}"}
        site.page = (PAGE % {"attempts": json.dumps([("ok", "fetch", url, {"headers": bearer})])}).encode()
        browser(f"{origin}/", lambda: site.results)
    assert site.results["ok"].startswith("READ 200")
    assert len(server.seen) == 1


def test_a_rebound_name_is_the_page_s_own_origin_and_still_reads_nothing(
    server: Upstream, browser: Callable[[str, Callable[[], object]], None], tmp_path: Path
) -> None:
    """The browser opens the gateway itself under the attacker's name, so the answer would be of the same origin."""
    with front(Purse(), Route("p", server.url)) as proxy:
        seen: list[bytes] = []
        with socket.create_server(("127.0.0.1", 0)) as between:
            # A relay in between keeps what the browser got.
            def relay() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        client, _ = between.accept()
                        with client, socket.create_connection(("127.0.0.1", proxy.port)) as gateway:
                            client.settimeout(5)
                            gateway.settimeout(5)
                            with contextlib.suppress(OSError):
                                gateway.sendall(client.recv(65536))
                                seen.append(gateway.recv(65536))
                                client.sendall(seen[-1])

            threading.Thread(target=relay, daemon=True).start()
            browser(f"http://rebound.example:{between.getsockname()[1]}/v1/models", lambda: seen)
            between.shutdown(socket.SHUT_RDWR)
    assert seen[0].startswith(b"HTTP/1.1 403 ")
    assert server.seen == []
