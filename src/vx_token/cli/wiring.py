"""Assembles this process's Refresher and Publisher: the real clock, Google, the environment and the runtime folder."""

import os

from vx_token.config.model import Config
from vx_token.credentials.fetch import fetch_token
from vx_token.gateway import address
from vx_token.outputs.publisher import Publisher
from vx_token.system import daemon_lock, paths
from vx_token.system.clock import SystemClock
from vx_token.tokens.refresh import Refresher
from vx_token.tokens.store import Store


def publisher(settings: Config, store: Store | None = None) -> Publisher:
    """Return a Publisher for the user's runtime folder, or for `store`.

    Raises:
        ConfigError: there is no safe runtime folder.
    """
    environ = dict(os.environ)
    store = store or Store(paths.runtime_dir(environ))
    # A token of another login, in a folder of its own, must not get into files that other tools read.
    state = None if store.root.parent.name == paths.ASIDE else lambda: paths.state_dir(environ)
    return Publisher(store, SystemClock(), settings, address.lookup(settings, environ), state)


def refresher(settings: Config, store: Store | None = None) -> Refresher:
    """Return a Refresher for the user's runtime folder, or for `store`; it publishes after each attempt.

    Raises:
        ConfigError: there is no safe runtime folder.
    """
    outputs = publisher(settings, store)
    store = outputs.store
    return Refresher(
        store,
        outputs.clock,
        fetch_token,
        dict(os.environ),
        settings,
        outputs.publish,
        attended=lambda: daemon_lock.attended(store.root),
    )
