"""The routes that issue tokens: token endpoint, STS, IAM, metadata server."""

import functools
import math
import re
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from vx_token.emulator import vertex
from vx_token.emulator.error_bodies import DeniedError, error, error_info, html, oauth_error
from vx_token.emulator.faults import Handler, Visit
from vx_token.emulator.identity import AUDIENCE, GOOGLE_TOKEN_URL, GRACE, HOUR, Issued
from vx_token.emulator.state import SCOPE, EmulatedGoogle

Json = dict[str, Any]

_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a type (RFC 8693)
_MACHINE = "/computeMetadata/v1/instance/service-accounts"


class IdentitySide:
    """The routes by which an identity becomes a token."""

    def __init__(self, google: EmulatedGoogle) -> None:
        self._google = google

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        """Method, path, route and handler of each."""
        token, info = (functools.partial(self._metadata, it) for it in (self._metadata_token, self._metadata_info))
        return [
            ("POST", "/token", "token", self._token),
            ("POST", "/v1/token", "sts", self._sts),
            ("GET", "/subject/{proof}", "subject", self._subject),
            ("POST", "/v1/projects/-/serviceAccounts/{target}:generateAccessToken", "iam", self._iam),
            ("POST", "/tokeninfo", "tokeninfo", self._tokeninfo),
            ("GET", _MACHINE + "/{account}/token", "metadata", token),
            ("GET", _MACHINE + "/{account}/{what:(email|scopes)?}", "metadata-info", info),
            ("GET", "/computeMetadata/v1/project/project-id", "metadata-info", info),
            ("GET", "/", "metadata-info", info),
        ]

    async def _token(self, visit: Visit) -> web.StreamResponse:
        form = await _form(visit.request)
        match form.get("grant_type"):
            case "urn:ietf:params:oauth:grant-type:jwt-bearer":
                audiences = frozenset({GOOGLE_TOKEN_URL, self._google.token_uri})
                identity = self._google.directory.account(_said(form, "assertion"), audiences, self._google.now())
            case "refresh_token":
                identity = self._google.directory.user(_said(form, "refresh_token"))
            case "urn:ietf:params:oauth:token-type:token-exchange":  # so Distributed Cloud names its grant
                here = self._google.token_uri
                assertion = _said(form, "subject_token")
                identity = self._google.directory.service_identity(assertion, here, self._google.now())
            case _:
                raise oauth_error("unsupported_grant_type", "Invalid grant_type: " + _said(form, "grant_type"))
        return self._oauth(visit, self._issue(visit, identity), scope=SCOPE)

    async def _sts(self, visit: Visit) -> web.StreamResponse:
        form = await visit.request.post()
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange":
            raise oauth_error("unsupported_grant_type", "Only token exchange is supported.")
        if form.get("audience") != AUDIENCE:
            raise oauth_error("invalid_target", 'The target service indicated by the "audience" parameters is invalid.')
        identity = self._google.directory.workload(_said(form, "subject_token"), self._google.now())
        return self._oauth(visit, self._issue(visit, identity), issued_token_type=_ACCESS_TOKEN)

    async def _subject(self, visit: Visit) -> web.StreamResponse:
        """A workload's own identity provider, by the manners of Azure's metadata service."""
        if visit.request.headers.get("Metadata") != "True":
            return html(400)
        return web.json_response({"access_token": visit.request.match_info["proof"], "token_type": "Bearer"})

    async def _iam(self, visit: Visit) -> web.StreamResponse:
        caller = self._google.bearer(visit.request)
        if isinstance(caller, str):
            raise DeniedError(error(401, "Request had invalid authentication credentials."), 401)
        self._google.ledger.amend(identity=caller.identity)
        target = visit.request.match_info["target"]
        hours = self._hours(vertex.parse(await visit.request.read()) or {})
        if target not in self._google.directory.targets:
            permission = "iam.serviceAccounts.getAccessToken"
            info = error_info("IAM_PERMISSION_DENIED", "iam.googleapis.com", permission=permission)
            raise DeniedError(
                error(403, f"Permission '{permission}' denied on resource (or it may not exist).", info), 403
            )
        # expireTime has no fractions: the token lives up to the second that is named.
        end = math.ceil(self._google.now() + hours * self._google.lifetime)
        value, left = self._shown(visit, self._issue(visit, target, end - self._google.now()))
        ends = (
            {}
            if left is None
            else {"expireTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._google.now() + left))}
        )
        return web.json_response({"accessToken": value} | ends)

    def _hours(self, body: Json) -> float:
        seconds = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(body.get("lifetime") or "3600s"))
        most = 43200 if self._google.extended_lifetimes else 3600
        if not seconds or not 0 < float(seconds[1]) <= most or not body.get("scope"):
            raise DeniedError(error(400, "Request contains an invalid argument."), 400)
        return float(seconds[1]) / HOUR

    async def _tokeninfo(self, visit: Visit) -> web.StreamResponse:
        form = await visit.request.post()
        issued = self._google.mint.find(_said(form, "access_token"))
        if issued is None or not self._google.mint.alive(issued):
            raise oauth_error("invalid_token", "Invalid Value")
        self._google.ledger.amend(identity=issued.identity)
        left = str(int(issued.expires_at - self._google.now()))
        return web.json_response({"scope": SCOPE, "expires_in": left, "email": issued.identity})

    async def _metadata(self, answer: Handler, visit: Visit) -> web.StreamResponse:
        """Require and send the header Metadata-Flavor, which keeps accidental requests away."""
        allowed = visit.request.headers.get("Metadata-Flavor") == "Google"
        response = await answer(visit) if allowed else html(403)
        response.headers["Metadata-Flavor"] = "Google"
        return response

    async def _metadata_token(self, visit: Visit) -> web.StreamResponse:
        last = self._google.mint.last(self._google.metadata_account, visit.route)
        window = min(self._google.metadata_window, self._google.lifetime * 0.1)
        if last is None or not self._google.mint.alive(last) or last.expires_at - self._google.now() <= window:
            last = self._issue(visit, self._google.metadata_account)
        self._google.ledger.amend(identity=last.identity)
        return self._oauth(visit, last)

    async def _metadata_info(self, visit: Visit) -> web.StreamResponse:
        texts = {
            "/": "computeMetadata/\n",
            "/computeMetadata/v1/project/project-id": "demo",
            f"{_MACHINE}/default/email": self._google.metadata_account,
            f"{_MACHINE}/default/scopes": f"{SCOPE}\n",
        }
        if visit.request.path in texts:
            return web.Response(text=texts[visit.request.path])
        return web.json_response({"aliases": ["default"], "email": self._google.metadata_account, "scopes": [SCOPE]})

    def _issue(self, visit: Visit, identity: str, lifetime: float | None = None) -> Issued:
        """A token for this visit, spoiled as its fault asks."""
        self._google.ledger.amend(identity=identity)
        last = self._google.mint.last(identity, visit.route)
        if visit.kind == "same_token" and last is not None:
            return last
        length = 12288 if visit.kind == "huge_token" else 180
        return self._google.mint.issue(
            identity, visit.route, self._google.lifetime if lifetime is None else lifetime, length
        )

    def _shown(self, visit: Visit, issued: Issued) -> tuple[str, float | None]:
        """Return the token and its `expires_in` in seconds, None to omit that."""
        value = {"newline_token": issued.value + "\n", "empty_token": ""}.get(visit.kind, issued.value)
        left = {"no_expiry": None, "negative_expiry": -60.0}.get(visit.kind, issued.expires_at - self._google.now())
        return value, left

    def _oauth(self, visit: Visit, issued: Issued, **more: str) -> web.Response:
        value, left = self._shown(visit, issued)
        expiry = {} if left is None else {"expires_in": math.floor(left + GRACE)}
        body = {"access_token": value, "token_type": "Bearer"} | expiry | more
        return web.json_response(body)


async def _form(request: web.Request) -> Mapping[str, object]:
    if request.content_type == "application/json":
        return vertex.parse(await request.read()) or {}
    return await request.post()


def _said(form: Mapping[str, object], name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""
