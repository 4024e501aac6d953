"""The control routes, by which another process configures the emulator."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from vx_token.emulator.state import EmulatedGoogle

Json = dict[str, Any]


class Control:
    """Lets another process do what `EmulatedGoogle`'s methods do; no answer holds a token."""

    def __init__(self, google: EmulatedGoogle) -> None:
        self._google = google

    def routes(self) -> list[web.RouteDef]:
        """Its routes, all below `/_emulator`."""
        return [
            web.get("/_emulator/state", self._guard(self._state)),
            web.post("/_emulator/faults", self._guard(self._fail)),
            web.delete("/_emulator/faults", self._guard(self._heal)),
            web.post("/_emulator/lifetime", self._guard(self._lifetime)),
            web.post("/_emulator/credentials", self._guard(self._credentials)),
            web.post("/_emulator/revoke", self._guard(self._revoke)),
            web.post("/_emulator/endpoints", self._guard(self._deploy)),
        ]

    def _guard(self, act: Callable[[Json], Json]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def enter(request: web.Request) -> web.Response:
            # A page in the user's browser can reach loopback, but neither forge this type nor this host.
            if request.method == "POST" and request.content_type != "application/json":
                return web.json_response({"error": "send application/json"}, status=415)
            if (request.url.host or "") not in {"localhost", self._google.host}:
                return web.json_response({"error": "ask by the loopback address"}, status=403)
            try:
                return web.json_response(act(await request.json() if request.body_exists else dict(request.query)))
            except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
                return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)

        return enter

    def _state(self, ask: Json) -> Json:
        del ask
        counts: dict[str, Counter[str]] = {}
        for seen in self._google.requests:
            counts.setdefault(seen.route, Counter())[str(seen.status)] += 1
        issued = [{k: v for k, v in asdict(token).items() if k != "value"} for token in self._google.issued]
        return {"url": self._google.url, "lifetime": self._google.lifetime, "counts": counts, "issued": issued}

    def _fail(self, ask: Json) -> Json:
        self._google.fail(**ask)
        return {}

    def _heal(self, ask: Json) -> Json:
        self._google.heal(ask.get("route"))
        return {}

    def _lifetime(self, ask: Json) -> Json:
        self._google.lifetime = float(ask["lifetime"])
        return {"lifetime": self._google.lifetime}

    def _revoke(self, ask: Json) -> Json:
        """End a token by value (`token`), or an identity's right to new ones (`identity`, `reauth`)."""
        if "token" in ask:
            self._google.revoke(ask["token"])
        else:
            self._google.revoke_identity(ask["identity"], reauth=bool(ask.get("reauth")))
        return {}

    def _deploy(self, ask: Json) -> Json:
        return {"id": self._google.deploy(**ask).id}

    def _credentials(self, ask: Json) -> Json:
        return {"identity": self._google.credentials(**ask)}
