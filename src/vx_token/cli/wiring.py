"""The refresher of this process: the real clock, Google, environment and runtime folder."""

import os

from vx_token.config.model import Config
from vx_token.credentials.fetch import mint
from vx_token.gateway import address
from vx_token.system import daemon_lock, paths
from vx_token.system.clock import SystemClock
from vx_token.tokens.refresh import Refresher
from vx_token.tokens.store import Store


def refresher(settings: Config, store: Store | None = None) -> Refresher:
    """A refresher under `settings`, in the user's own runtime folder unless another store is given.

    Raises:
        ConfigError: there is no safe runtime folder.
    """
    environ = dict(os.environ)
    store = store or Store(paths.runtime_dir(environ))
    gateway = address.lookup(settings, environ)
    return Refresher(
        store, SystemClock(), mint, environ, settings, gateway, attended=lambda: daemon_lock.attended(store.root)
    )
