"""Doctor's live checks, by requests to Google: the token's scopes, the clock, and a tiny completion."""

import contextlib
import email.utils
import time
from collections.abc import Iterator
from urllib.parse import urlencode, urljoin

from vx_token.config.model import CLOUD_PLATFORM
from vx_token.credentials import credential_file
from vx_token.credentials.token import Token
from vx_token.errors import VxTokenError
from vx_token.report.doctor_facts import Check, DoctorFacts, ProfileFacts, on_loopback
from vx_token.vertex.probe import probe
from vx_token.vertex.request import HttpResponse, post

TOKENINFO = "https://oauth2.googleapis.com/tokeninfo"

_REFRESH = ("run: vx-token refresh", ("vx-token", "refresh"))  # hint and fix

SKEW_WARN, SKEW_FAIL = 30.0, 300.0
"""Seconds of difference to Google's clock for a warning and a failure; Google refuses assertions from the future."""


def examine(facts: DoctorFacts) -> list[Check]:
    """Run the live checks for the profile that this shell uses."""
    each = facts.profile_in_use
    if each is None:
        return [Check("live", "fail", "no profile is configured", "see the check `config`")]
    token = each.state.live(facts.now)
    body = urlencode({"access_token": token.value if token else ""}).encode()
    info = post(facts.environ, tokeninfo_url(each), {}, body)
    if token is None:  # a wrong clock may be the cause
        return [Check("live", "fail", "there is no live token", *_REFRESH), *_skew(info)]
    return [*_scopes(info, token, facts.now), *_skew(info), _completion(facts, each, token)]


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
        yield Check("live token", "fail", "Google does not accept this token", *_REFRESH)
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


def _completion(facts: DoctorFacts, each: ProfileFacts, token: Token) -> Check:
    login = None
    with contextlib.suppress(VxTokenError):  # another check reports it
        login, _ = credential_file.find(each.profile, facts.environ)
    result = probe(facts.environ, each.profile, token, login)
    hint = f"run: vx-token refresh; if that does not help, {result.hint}" if result.status == 401 else result.hint
    return Check("live completion", "ok" if result.ok else "fail", result.detail, hint)
