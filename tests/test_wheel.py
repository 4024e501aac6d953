"""What users install: the built wheel, in a fresh environment, with all that ships beside the package."""

import os
import shlex
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from sandbox import REPOSITORY, plain_environment
from vx_token.emulator import Emulator

SHIPPED = (
    "shell/vx-token.bash",
    "shell/vx-token.zsh",
    "shell/vx-token.fish",
    "systemd/vx-token.service",
    "docs/configuration.md",
    "man/vx-token.1",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    return folder


def test_wheel_and_sdist_carry_the_shell_and_systemd_files(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        assert {f"vx_token/{name}" for name in SHIPPED} | {"vx_token/py.typed"} <= set(wheel.namelist())
        assert [name for name in wheel.namelist() if name.endswith(".data/data/share/man/man1/vx-token.1")]
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {*SHIPPED, "tests/test_wheel.py", "scripts/test", "LICENSE", "README.md"} <= names


@pytest.mark.slow
def test_two_builds_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(copy)], check=True)
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=REPOSITORY, check=True, capture_output=True).stdout
    wheels = [next(built.glob("*.whl")).read_bytes()]
    for source in [copy, copy] if changed else [copy]:  # beside uncommitted changes two builds of the clone
        folder = tmp_path / f"dist{len(wheels)}"
        command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(source)]
        subprocess.run(command, check=True, capture_output=True, timeout=100)
        wheels.append(next(folder.glob("*.whl")).read_bytes())
    assert wheels[-1] == wheels[-2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_installed_wheel_serves_a_token_and_the_hook(built: Path, tmp_path: Path, google: Emulator) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    wheel = next(built.glob("*.whl"))
    pip = [str(venv / "bin/python"), "-m", "pip", "-q", "--disable-pip-version-check", "install"]
    patient = os.environ | {"PIP_RETRIES": "10"}
    subprocess.run([*pip, str(wheel)], check=True, timeout=500, env=patient)
    google.service_account(tmp_path / "key.json")
    environ = plain_environment(tmp_path) | {
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json"),
        "GOOGLE_CLOUD_PROJECT": "demo",
        "VX_TOKEN_RUNTIME_DIR": str(tmp_path / "run"),
    }
    del environ["PYTHONPATH"]

    def vx(*words: str) -> str:
        command = [str(venv / "bin/vx-token"), *words]
        done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert not done.stderr
        return done.stdout

    assert google.identity_of(vx("print").strip())
    assert vx("print").strip() == (tmp_path / "run/default/token").read_text()
    for shell in ("bash", "zsh", "fish"):
        [*_, file] = shlex.split(vx("hook", shell))
        assert Path(file).read_text() == (REPOSITORY / f"shell/vx-token.{shell}").read_text()
    assert Path(vx("path", "hook-bash").strip()).is_relative_to(venv)
    assert vx("--version").startswith("vx-token ")
    assert vx("help", "configuration") == (REPOSITORY / "docs/configuration.md").read_text()
    assert (venv / "share/man/man1/vx-token.1").read_text() == (REPOSITORY / "man/vx-token.1").read_text()
    assert [found.name for found in (tmp_path / "run").iterdir()] == ["default"]
