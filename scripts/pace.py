"""Measures how slow this machine is now, so that the tokens of a test live long enough for it."""

import subprocess
import sys
import time

REFRESH = "import google.auth.transport.requests, google.oauth2.service_account"
"""What the process that requests a token spends most of its time with: 0.2 s on an idle machine."""


def lifetime(least: float) -> float:
    """Return `least`, or up to 20 seconds on a machine that is too slow to refresh such tokens in time."""
    took = []
    for _ in range(3):
        started = time.monotonic()
        subprocess.run([sys.executable, "-c", REFRESH], check=True)
        took.append(time.monotonic() - started)
    return max(least, min(20.0, 12 * min(took)))
