"""The metadata server of a machine at AWS (source: AWS, "Use the Instance Metadata Service", version 2)."""

import secrets
from collections.abc import Mapping

from aiohttp import web

from vx_token.emulator.aws import REGION, SECURITY, SESSION, ZONE, Role
from vx_token.emulator.faults import Handler, Visit


class MachineSide:
    """The metadata server of a machine at AWS, version 2 only: every question needs a session token."""

    def __init__(self, roles: Mapping[str, Role]) -> None:
        self._roles = roles
        self._session = secrets.token_urlsafe(40)

    def routes(self) -> list[tuple[str, str, str, Handler]]:
        """Method, path, route and handler of each."""
        return [
            ("PUT", SESSION, "aws", self._open),
            ("GET", ZONE, "aws", self._zone),
            ("GET", SECURITY, "aws", self._role),
            ("GET", SECURITY + "/{role}", "aws", self._keys),
        ]

    async def _open(self, visit: Visit) -> web.StreamResponse:
        known = visit.request.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "").isdecimal()
        return web.Response(text=self._session) if known else web.Response(status=400)

    def _refused(self, visit: Visit) -> web.Response | None:
        known = visit.request.headers.get("X-aws-ec2-metadata-token") == self._session
        return None if known else web.Response(status=401)

    async def _zone(self, visit: Visit) -> web.StreamResponse:
        return self._refused(visit) or web.Response(text=REGION + "b")

    async def _role(self, visit: Visit) -> web.StreamResponse:
        names = [role.name for role in self._roles.values()]
        return self._refused(visit) or (web.Response(text=names[-1]) if names else web.Response(status=404))

    async def _keys(self, visit: Visit) -> web.StreamResponse:
        found = [role for role in self._roles.values() if role.name == visit.request.match_info["role"]]
        if self._refused(visit) or not found:
            return self._refused(visit) or web.Response(status=404)
        keys = {"AccessKeyId": found[-1].key_id, "SecretAccessKey": found[-1].secret, "Token": found[-1].session}
        return web.json_response({"Code": "Success", "Type": "AWS-HMAC"} | keys)
