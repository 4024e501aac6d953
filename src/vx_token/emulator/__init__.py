"""A Google emulator on loopback: token endpoint, metadata server, IAM, STS, Vertex routes, faults on demand.

Run it alone with `python -m vx_token.emulator`; in a program, `async with Emulator() as google:` or, beside code that
is not asynchronous, `with running() as google:`. Every method is safe to call from any thread.
"""

from vx_token.emulator.faults import KINDS, Fault
from vx_token.emulator.identity import AUDIENCE, Issued
from vx_token.emulator.server import Emulator, running
from vx_token.emulator.state import ROUTES, SCOPE, Seen

__all__ = ["AUDIENCE", "KINDS", "ROUTES", "SCOPE", "Emulator", "Fault", "Issued", "Seen", "running"]
