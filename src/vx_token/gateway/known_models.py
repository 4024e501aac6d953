"""The models that a profile's list contains beside the configured ones, and the child that keeps them up to date."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping

from vx_token.config.model import Profile
from vx_token.errors import ConfigError
from vx_token.vertex.discover import due
from vx_token.vertex.known import Known, KnownFile
from vx_token.vertex.lists import place_of
from vx_token.vertex.models import deployed_here, offered, own_endpoint

PAUSE = 600.0
"""Seconds between two starts of the child, so that a failure is not repeated with every request."""

DEADLINE = 120.0
"""Maximum duration (seconds) of the child."""


class KnownModels:
    """The known models of a profile; nothing here waits for Google.

    Args:
        environ: the environment of the child, and for the place of the file.
        profile: the profile; its lists are read only at a deployed endpoint or with `list_publishers`.
        start: starts the child with the words of its command; replaced in tests.
    """

    def __init__(
        self, environ: Mapping[str, str], profile: Profile, start: "Callable[[list[str]], object] | None" = None
    ) -> None:
        self._environ = environ
        self._profile = profile
        self._own = bool(own_endpoint(profile))
        self._project = ""
        with contextlib.suppress(ConfigError):  # the base URL is another server's, and nothing is known of that
            self._project = place_of(profile).project
        self._file = KnownFile(environ, profile.name)
        self._start = start or self._run
        self._read: Known | None = None
        self._ids: tuple[str, ...] = ()
        self._deployed: frozenset[str] = frozenset()
        self._next_start = 0.0

    def ids(self) -> tuple[str, ...]:
        """Return the ids that the model list contains."""
        self._update()
        return self._ids

    def deployed(self) -> frozenset[str]:
        """Return the names of the models at the profile's own endpoint, whose container is asked without a name."""
        if self._own:
            self._update()
        return self._deployed

    def refresh_if_due(self) -> None:
        """Start the child if a list is missing or no longer fresh; return at once."""
        now = time.monotonic()
        if now < self._next_start or not (self._project and (self._profile.list_publishers or self._own)):
            return
        self._next_start = now + PAUSE
        if due(self._profile, self._current(), self._profile.list_publishers, time.time()):
            publishers = [word for each in self._profile.list_publishers for word in ("--publisher", each)]
            self._start(["models", "--refresh", "--profile", self._profile.name, *publishers])

    def _current(self) -> Known:
        return self._file.read().of(self._project)

    def _update(self) -> None:
        content = self._file.read()
        if content is not self._read:
            known = self._current()
            self._ids = tuple(offered(self._profile, known))
            self._deployed = frozenset(deployed_here(self._profile, known))
            self._read = content

    def _run(self, words: list[str]) -> None:
        threading.Thread(target=self._child, args=(words,), name="known models", daemon=True).start()

    def _child(self, words: list[str]) -> None:
        # -P: do not import modules from the current folder.
        command = [sys.executable, "-P", "-m", "vx_token", *words]
        silent = subprocess.DEVNULL
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                command, env=self._environ, stdin=silent, stdout=silent, stderr=silent, timeout=DEADLINE, check=False
            )
