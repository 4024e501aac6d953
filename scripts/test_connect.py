"""Runs `vx-token connect` with real tools: an answer by the tool itself, another after the token is revoked, undo."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vx_token.emulator import Emulator, running
from vx_token.tools.catalog import TOOLS
from vx_token.tools.model import Tool

QUIET = {
    "PI_OFFLINE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
"""Variables that keep tools from asking other hosts."""

CONFIG = """\
[profiles.test]
base_url = "{url}"
credentials = "account.json"
[gateway]
port = {port}
"""

COMMAND = [sys.executable, "-P", "-m", "vx_token"]


def environment(root: Path) -> dict[str, str]:
    """Return the environment of a new user, with `vx-token` in PATH for key commands."""
    (root / "home").mkdir()
    program = root / "bin" / "vx-token"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    return {
        **QUIET,
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "HOME": str(root / "home"),
        "VX_TOKEN_CONFIG": str(root / "config.toml"),
        "VX_TOKEN_RUNTIME_DIR": str(root / "run"),
    }


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def gateway(root: Path, environ: dict[str, str], google: Emulator, config: str = CONFIG) -> Iterator[str]:
    """Run `vx-token gateway` for a profile of the emulator's, and give its address."""
    google.service_account(root / "account.json")
    url, port = google.base_url(), free_port()
    (root / "config.toml").write_text(config.format(url=url, port=port))
    with (root / "gateway.log").open("wb") as log:
        process = subprocess.Popen([*COMMAND, "gateway"], env=environ, stderr=log)
    try:
        end = time.monotonic() + 30
        while not answers(f"http://127.0.0.1:{port}/healthz"):
            if time.monotonic() > end:
                sys.exit((root / "gateway.log").read_text())
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    """Return whether a server answers."""
    try:
        with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - loopback
            return True
    except OSError:
        return False


def run(environ: dict[str, str], *words: str) -> str:
    """Run vx-token; return "" or what went wrong."""
    done = subprocess.run([*COMMAND, *words], env=environ, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else " ".join(done.stderr.split()[:40])


def result(tool: Tool, environ: dict[str, str], google: Emulator) -> str:
    """Connect a tool twice, with its token revoked in between, and take it back; return "works" or what went wrong."""
    if problem := run(environ, "connect", tool.name, "--yes"):
        return problem
    token = subprocess.run([*COMMAND, "print"], env=environ, capture_output=True, text=True, check=True).stdout.strip()
    google.revoke(token)
    if problem := run(environ, "connect", tool.name, "--yes"):
        return f"after the revocation of the token: {problem}"
    if problem := run(environ, "connect", "--undo", tool.name, "--yes"):
        return problem
    left = [path for path in Path(environ["HOME"]).rglob("*") if path.is_file() and b"vx-local-" in path.read_bytes()]
    return f"a key is left in {left[0]}" if left else "works"


def main() -> int:
    """Run the tools that are named, or all that are installed; exit status 1 if one fails."""
    edited = {name: tool for name, tool in TOOLS.items() if tool.files}
    chosen = [edited[name] for name in sys.argv[1:] or edited]
    if not sys.argv[1:]:
        chosen = [tool for tool in chosen if any(map(shutil.which, tool.programs))]
    good = bool(chosen)
    for tool in chosen:
        root = Path(tempfile.mkdtemp(prefix="vx-token-connect-"))
        try:
            environ = environment(root)
            with running() as google, gateway(root, environ, google):
                outcome = result(tool, environ, google)
        finally:
            shutil.rmtree(root, ignore_errors=True)
        note = "" if tool.request else " (no request is made)"
        sys.stdout.write(f"{tool.name}: {outcome}{note}\n")
        sys.stdout.flush()
        good = good and outcome == "works"
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
