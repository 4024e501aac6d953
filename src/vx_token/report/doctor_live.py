"""Doctor's live checks, by requests to Google: the token's scopes, the clock, and a tiny completion."""

import contextlib
import email.utils
import http.client
import json
import queue
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from vx_token.config.model import CLOUD_PLATFORM
from vx_token.credentials.token import Token
from vx_token.outputs.exports import header_lines
from vx_token.report.doctor_facts import Check, ProfileFacts, Surroundings, on_loopback

TOKENINFO = "https://oauth2.googleapis.com/tokeninfo"
MODEL = "google/gemini-2.5-flash"
TIMEOUT = 30.0
"""Seconds for a whole response, including its last byte."""

SKEW_WARN, SKEW_FAIL = 30.0, 300.0
"""Seconds of difference to Google's clock for a warning and a failure; Google refuses assertions from the future."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response, or `status` 0 and the problem."""

    status: int
    headers: Mapping[str, str]
    body: Any
    seconds: float
    problem: str = ""


def examine(around: Surroundings) -> list[Check]:
    """Run the live checks for the profile that this shell uses."""
    each = around.profile_in_use
    if each is None:
        return [Check("live", "fail", "no profile is configured", "see the check `config`")]
    token = each.state.live(around.now)
    info = _ask(around, tokeninfo_url(each), {}, urlencode({"access_token": token.value if token else ""}).encode())
    if token is None:  # a wrong clock may be the cause
        return [Check("live", "fail", "there is no live token", "run: vx-token refresh"), *_skew(info)]
    return [*_scopes(info, token, around.now), *_skew(info), _completion(around, each, token)]


def tokeninfo_url(each: ProfileFacts) -> str:
    """Return Google's tokeninfo URL, or that of the emulator when the token endpoint is on loopback."""
    uri = each.login.token_uri if each.login else ""
    return urljoin(uri, "/tokeninfo") if on_loopback(uri) else TOKENINFO


def _scopes(info: HttpResponse, token: Token, now: float) -> Iterator[Check]:
    if info.status == 0 or info.status >= 500:
        hint = "check the network and the proxy settings"
        yield Check("live token", "fail", info.problem or f"Google answered HTTP {info.status}", hint)
        return
    if info.status != 200 or not isinstance(info.body, dict):
        yield Check("live token", "fail", "Google does not accept this token", "run: vx-token refresh")
        return
    scopes = str(info.body.get("scope", "")).split()
    left = str(info.body.get("expires_in", ""))
    if CLOUD_PLATFORM not in scopes:
        hint = "log in again and grant all requested permissions"
        yield Check("live token", "warn", "the token lacks the scope cloud-platform", hint)
    elif left.isdigit() and abs(int(left) - (token.expires_at - now)) > SKEW_WARN:
        detail = f"the token expires in {left} s by Google's clock, in {token.expires_at - now:.0f} s by this machine's"
        yield Check("live token", "warn", detail, "set this machine's clock")
    else:
        yield Check("live token", "ok", "Google accepts it, with the scope cloud-platform")


def _skew(info: HttpResponse) -> Iterator[Check]:
    with contextlib.suppress(ValueError, TypeError):
        theirs = email.utils.parsedate_to_datetime(info.headers["Date"]).timestamp()
        ours = time.time() - info.seconds / 2
        off = abs(ours - theirs)
        ok = "fail" if off >= SKEW_FAIL else "warn" if off >= SKEW_WARN else "ok"
        hint = "" if ok == "ok" else "set this machine's clock: timedatectl set-ntp true"
        ahead = "ahead of" if ours > theirs else "behind"
        yield Check("live clock", ok, "correct" if ok == "ok" else f"{off:.0f} s {ahead} Google's", hint)


def _completion(around: Surroundings, each: ProfileFacts, token: Token) -> Check:
    model = each.profile.model or MODEL
    ask = {"model": model, "max_tokens": 16, "messages": [{"role": "user", "content": "Say hello."}]}
    lines = [line.partition(": ") for line in header_lines(token).splitlines()]
    headers = {**each.profile.headers, **{name: value for name, _, value in lines}, "Content-Type": "application/json"}
    answer = _ask(around, f"{each.profile.url}/chat/completions", headers, json.dumps(ask).encode())
    if answer.status == 200 and isinstance(answer.body, dict) and answer.body.get("choices"):
        return Check("live completion", "ok", f"{model} answered in {answer.seconds:.1f} s")
    detail = answer.problem or f"{model}: HTTP {answer.status}" + _message(answer.body)
    return Check("live completion", "fail", detail, HINTS.get(answer.status, "check project, location and base_url"))


HINTS: Mapping[int, str] = {
    0: "check the network, the proxy settings and base_url",
    200: "another server answered instead of Vertex: check base_url and the proxy settings",
    400: "check the model's name: publisher/model",
    401: "run: vx-token refresh",
    403: "grant the permission aiplatform.endpoints.predict to this login, and enable the API in the project",
    404: 'the model does not exist in this project and location; try location = "global"',
    429: "the quota is used up; try again later",
}


def _message(body: Any) -> str:
    """Return Google's error message; the body is an object or a list with one object."""
    content = body[0] if isinstance(body, list) and body else body
    error = content.get("error") if isinstance(content, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return f", {' '.join(message.split())[:200]}" if isinstance(message, str) else ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, because the next host would get the token."""

    def redirect_request(self, *_: Any) -> None:
        """Refuse."""


def _ask(around: Surroundings, url: str, headers: Mapping[str, str], body: bytes) -> HttpResponse:
    """Make a request in a thread with a total timeout, because a socket's timeout restarts with each byte."""
    request = urllib.request.Request(url, body, dict(headers), method="POST")  # noqa: S310 - http(s) by the configuration
    answers: queue.SimpleQueue[HttpResponse] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_answer(around, request)), daemon=True).start()
    try:
        return answers.get(timeout=TIMEOUT)
    except queue.Empty:
        return HttpResponse(0, {}, None, 0.0, f"{urlsplit(url).hostname} did not answer within {TIMEOUT:.0f} s")


def _answer(around: Surroundings, request: urllib.request.Request) -> HttpResponse:
    started = time.monotonic()
    try:
        with _opener(around.environ).open(request, timeout=TIMEOUT) as response:
            status, headers, text = response.status, response.headers, response.read(2**20)
    except urllib.error.HTTPError as error:
        with error:
            status, headers, text = error.code, error.headers, error.read(2**20)
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a header that cannot be encoded
        reason = getattr(error, "reason", None)
        cause = (
            reason if isinstance(reason, str) else getattr(reason, "strerror", None) or type(reason or error).__name__
        )
        return HttpResponse(0, {}, None, 0.0, f"{urlsplit(request.full_url).hostname} is unreachable: {cause}")
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    return HttpResponse(status, dict(headers), content, time.monotonic() - started)


def _opener(environ: Mapping[str, str]) -> urllib.request.OpenerDirector:
    """Return a client that trusts the CA files of REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE, as refreshing does."""
    bundle = environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or None
    folder = bundle if bundle and Path(bundle).is_dir() else None
    context = ssl.create_default_context(cafile=None if folder else bundle, capath=folder)
    return urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=context))
