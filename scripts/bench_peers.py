"""Other programs of the gateway's kind, each from a virtual environment of its own, before the benchmark's upstream."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench_servers import KEY

GOOGLE = re.compile(r"https://\{[^}]+\}-aiplatform\.googleapis\.com")
LITELLM = """
model_list:
  - model_name: gemini-2.5-flash
    litellm_params: {{model: openai/google/gemini-2.5-flash, api_base: "{upstream}", api_key: t}}
general_settings: {{master_key: {key}}}
"""


@dataclass(frozen=True)
class Peer:
    """How one is started.

    Attributes:
        argv: the command.
        environ: over the environment that we have.
        folder: where it runs.
    """

    argv: tuple[str, ...]
    environ: dict[str, str]
    folder: Path


def _bridge(venv: Path, folder: Path, port: int, upstream: str) -> Peer:
    _point_at(upstream, next(venv.glob("lib/python3*/site-packages/svbridge.py")), folder / "svbridge.py")
    argv = (str(venv / "bin/simple-vertex-bridge"), "--port", str(port), "--bind", "127.0.0.1", "--key", KEY)
    return Peer(argv, {}, folder)


def _proxy(venv: Path, folder: Path, port: int, upstream: str) -> Peer:
    for module in next(venv.glob("lib/python3*/site-packages/vertex_proxy")).glob("*.py"):
        _point_at(upstream, module, folder / "vertex_proxy" / module.name)
    argv = (str(venv / "bin/vertex-proxy"), "--port", str(port), "--log-level", "warning")
    return Peer(argv, {"VERTEX_PROXY_API_KEY": KEY}, folder)


def _litellm(venv: Path, folder: Path, port: int, upstream: str) -> Peer:
    (folder / "config.yaml").write_text(LITELLM.format(upstream=upstream, key=KEY))
    argv = (str(venv / "bin/litellm"), "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port))
    return Peer(argv, {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}, folder)


KINDS: dict[str, Callable[[Path, Path, int, str], Peer]] = {
    "simple-vertex-bridge": _bridge,
    "vertex-proxy": _proxy,
    "litellm": _litellm,
}


def installed(venvs: Path | None) -> dict[str, Path | None]:
    """Each peer's virtual environment below `venvs`; None where there is none."""
    found = {name: venvs / name if venvs else None for name in KINDS}
    return {name: venv if venv and (venv / "bin" / name).exists() else None for name, venv in found.items()}


def version(venv: Path, name: str) -> str:
    """Return the version that is installed in a peer's virtual environment."""
    found = next(venv.glob(f"lib/python*/site-packages/{name.replace('-', '_')}-*.dist-info"))
    return found.name.removesuffix(".dist-info").rpartition("-")[2]


def peer(name: str, venv: Path, folder: Path, port: int, upstream: str, account: Path) -> Peer:
    """How `name` is started, with a login and a certificate authority of the benchmark's own."""
    own = folder / name
    own.mkdir()
    found = KINDS[name](venv, own, port, upstream)
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(own),
        "PYTHONPATH": str(own),  # its own code, but for the upstream's name
        "GOOGLE_APPLICATION_CREDENTIALS": str(account),
        "SSL_CERT_FILE": str(folder / "ca.pem"),
        **found.environ,
    }
    return Peer(found.argv, environ, found.folder)


def _point_at(upstream: str, module: Path, copy: Path) -> None:
    """A copy of a module that has Google's host written into it, with our upstream in its place."""
    copy.parent.mkdir(exist_ok=True)
    copy.write_text(GOOGLE.sub(upstream, module.read_text()))
