"""The emulator as a program: it prints its address as one JSON line and serves until a signal."""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from vx_token.emulator.identity import HOUR
from vx_token.emulator.server import Emulator
from vx_token.emulator.signatures import MODES


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m vx_token.emulator", description="A Google that lives on loopback.")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--lifetime", type=float, default=HOUR, help="seconds a token lives")
    parser.add_argument("--thought-signatures", choices=MODES, default=MODES[0], help="models that demand them")
    parser.add_argument("--service-account", type=Path, metavar="PATH", help="write a key file there")
    parser.add_argument("--authorized-user", type=Path, metavar="PATH", help="write a user's login there")
    return parser.parse_args(argv)


async def _serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Emulator(options.lifetime, options.port, options.host, signatures=options.thought_signatures) as google:
        ready = {"url": google.url, "base_url": google.base_url(), "metadata_host": google.metadata_host}
        for kind in ("service_account", "authorized_user"):
            path = getattr(options, kind)
            if path is not None:
                ready[kind] = google.credentials(kind, path)
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await stop.wait()


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; print the address as one JSON line on stdout."""
    try:
        asyncio.run(_serve(_arguments(argv)))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"emulator: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
