"""The refresher of this process: the real clock, Google, environment and runtime folder."""

import os

from vx_token import endpoint, paths, peek
from vx_token.clock import SystemClock
from vx_token.mint import mint
from vx_token.refresh import Refresher
from vx_token.settings import Config
from vx_token.store import Store


def refresher(settings: Config, store: Store | None = None) -> Refresher:
    """A refresher under `settings`, in the user's own runtime folder unless another store is given.

    Raises:
        ConfigError: there is no safe runtime folder.
    """
    environ = dict(os.environ)
    store = store or Store(paths.runtime_dir(environ))
    gateway = endpoint.local(settings, environ)
    return Refresher(store, SystemClock(), mint, environ, settings, gateway, attended=lambda: peek.attended(store.root))
