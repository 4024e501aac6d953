"""Applies the configuration to the daemon's gateway and keeps the error while its address is unavailable."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from vx_token.config.model import Config
from vx_token.errors import AddressError, TemporaryError, VxTokenError, shortage
from vx_token.gateway.controller import GatewayController
from vx_token.system.log import Log
from vx_token.tokens.refresh import Refresher

RETRY = 5.0
"""Seconds between retries after a temporary error: the runtime folder, the gateway's address."""


@dataclass
class GatewaySupervisor:
    """The gateway, and why it is not running."""

    gateway: GatewayController
    make_refresher: Callable[[Config], Refresher]
    log: Log
    problem: VxTokenError | None = None

    def apply(self, config: Config) -> None:
        """Start, change or stop the gateway; without its address the daemon still refreshes tokens.

        Raises:
            ConfigError: the extra is not installed, or a setting is invalid.
            AddressError, TemporaryError: the new gateway cannot start, and the one already running continues.
        """
        problem: VxTokenError | None = None
        try:
            self.gateway.apply(config, self.make_refresher(config))
        except (VxTokenError, OSError, MemoryError, RuntimeError) as caught:
            error = caught if isinstance(caught, VxTokenError) else shortage(caught)
            if not isinstance(error, AddressError | TemporaryError):
                raise
            if self.gateway.address:
                raise error from None
            problem = error
            if self.message != error.message:
                self.log.event("error", f"{error.message}; {error.hint}; retrying every {RETRY:.0f} s")
        self.problem = problem

    def retry(self, config: Config) -> bool:
        """Apply the configuration again after an error; return whether the error has changed."""
        before = self.message
        with contextlib.suppress(VxTokenError):
            self.apply(config)
        return self.message != before

    @property
    def message(self) -> str:
        """The error message, "" without an error."""
        return self.problem.message if self.problem else ""
