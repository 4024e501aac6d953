"""The runtime folder's rule: each hook and completion computes the same path as the program."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sandbox import SOURCE
from shells import HOOKS, ROOT, need
from vx_token.system import paths

COMPLETIONS = ROOT / "shell" / "completions"
# How each file is loaded, and how it then prints the runtime folder.
COPIES: Mapping[str, tuple[list[str], str]] = {
    "bash hook": (["bash", "-c"], f'. {HOOKS["bash"]}; __vx_token_find_file p; echo "${{_vx_file%/p/env.sh}}"'),
    "zsh hook": (["zsh", "-fc"], f'. {HOOKS["zsh"]}; __vx_token_find_file p; echo "${{_vx_file%/p/env.sh}}"'),
    "fish hook": (
        ["fish", "--no-config", "-c"],
        f". {HOOKS['fish']}; __vx_token_find_file p; string replace /p/env.fish '' -- $__vx_token_path_found",
    ),
    "bash completion": (["bash", "-c"], f'. {COMPLETIONS}/vx-token.bash; __vx_token_folder; echo "$folder"'),
    "zsh completion": (["zsh", "-fc"], f'. {COMPLETIONS}/_vx-token 2>&-; _vx_token_folder; echo "$folder"'),
    "fish completion": (["fish", "--no-config", "-c"], f". {COMPLETIONS}/vx-token.fish; __vx_token_folder"),
}


@pytest.fixture(params=COPIES)
def copy(request: pytest.FixtureRequest) -> str:
    need(request.param.partition(" ")[0])
    return str(request.param)


def by_the_shell(copy: str, environ: Mapping[str, str], folder: Path, before: str = "", *prefix: str) -> Path:
    """The runtime folder by the shell's copy of the rule, in the working folder `folder`."""
    argv, script = COPIES[copy]
    command = [*prefix, *argv, before + script]
    done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, timeout=30, check=True)
    return folder / done.stdout.removesuffix("\n")


def by_the_program(environ: Mapping[str, str], folder: Path, before: str = "", *prefix: str) -> Path:
    """The runtime folder by the program, in the working folder `folder`."""
    script = f"import os, sys; {before}\nfrom vx_token.system import paths; print(paths.runtime_dir(os.environ))"
    command = [*prefix, sys.executable, "-c", script]
    done = subprocess.run(
        command, env={**environ, "PYTHONPATH": str(SOURCE)}, cwd=folder, capture_output=True, text=True, check=True
    )
    return Path(done.stdout.removesuffix("\n"))


def folder(parent: Path, name: str, mode: int = 0o700, owner: int = -1) -> str:
    """Create a folder and return its path."""
    path = parent / name
    path.mkdir()
    path.chmod(mode)
    os.chown(path, owner, -1)
    return str(path)


def link(parent: Path, name: str) -> str:
    """Create a link to a folder and return the link's path."""
    (parent / name).symlink_to(folder(parent, f"target of {name}"))
    return str(parent / name)


def file(parent: Path, name: str) -> str:
    """Create a file and return its path."""
    (parent / name).touch()
    return str(parent / name)


ENVIRONMENTS: Mapping[str, Callable[[Path], Mapping[str, str]]] = {
    "no variables": lambda _: {},
    "VX_TOKEN_RUNTIME_DIR": lambda t: {"VX_TOKEN_RUNTIME_DIR": "/no/such folder", "XDG_RUNTIME_DIR": folder(t, "x")},
    "VX_TOKEN_RUNTIME_DIR, relative": lambda _: {"VX_TOKEN_RUNTIME_DIR": "some/where"},
    "VX_TOKEN_RUNTIME_DIR, empty": lambda t: {"VX_TOKEN_RUNTIME_DIR": "", "XDG_RUNTIME_DIR": folder(t, "x y")},
    "XDG_RUNTIME_DIR": lambda t: {"XDG_RUNTIME_DIR": folder(t, "x y"), "TMPDIR": folder(t, "tmp")},
    "XDG_RUNTIME_DIR, a link": lambda t: {"XDG_RUNTIME_DIR": link(t, "x")},
    "XDG_RUNTIME_DIR, with a slash": lambda t: {"XDG_RUNTIME_DIR": folder(t, "x") + "/"},
    "XDG_RUNTIME_DIR, relative": lambda t: {"XDG_RUNTIME_DIR": folder(t, "x")[len(str(t)) + 1 :]},
    "XDG_RUNTIME_DIR, missing": lambda t: {"XDG_RUNTIME_DIR": f"{t}/none", "TMPDIR": folder(t, "tmp")},
    "XDG_RUNTIME_DIR, a file": lambda t: {"XDG_RUNTIME_DIR": file(t, "x"), "TMPDIR": folder(t, "tmp")},
    "TMPDIR": lambda t: {"TMPDIR": folder(t, "t t"), "TEMP": folder(t, "temp"), "TMP": folder(t, "tmp")},
    "TMPDIR, relative": lambda t: {"TMPDIR": folder(t, "x")[len(str(t)) + 1 :], "TEMP": folder(t, "temp")},
    "TMPDIR, missing": lambda t: {"TMPDIR": f"{t}/none", "TEMP": folder(t, "temp"), "TMP": folder(t, "tmp")},
    "TMPDIR, read-only": lambda t: {"TMPDIR": folder(t, "x", 0o500), "TMP": folder(t, "tmp")},
    "TMP, a file": lambda t: {"TMP": file(t, "tmp")},
}
FOREIGN: Mapping[str, Callable[[Path], Mapping[str, str]]] = {
    "XDG_RUNTIME_DIR, foreign": lambda t: {"XDG_RUNTIME_DIR": folder(t, "x", 0o777, 12345), "TMP": folder(t, "tmp")}
}


@pytest.mark.parametrize("name", [*ENVIRONMENTS, *FOREIGN])
def test_each_copy_of_the_rule_gives_the_program_s_runtime_folder(
    copy: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in FOREIGN and os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **{**ENVIRONMENTS, **FOREIGN}[name](tmp_path)}
    monkeypatch.chdir(tmp_path)
    assert by_the_shell(copy, environ, tmp_path) == paths.runtime_dir(environ)


IN_NAMESPACE = ["unshare", "-m", *(["-r"] if os.geteuid() else []), "sh", "-c"]
WITH_USER_FOLDER = 'mount -t tmpfs none /run && mkdir -p /run/user/$(id -u) && exec "$@"'


def test_the_system_s_folder_of_the_user_comes_before_temporary_ones(copy: str, tmp_path: Path) -> None:
    prefix = (*IN_NAMESPACE, WITH_USER_FOLDER, "sh")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount in a namespace")
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": folder(tmp_path, "tmp")}
    path = by_the_program(environ, tmp_path, "", *prefix)
    assert path.parent.parent == Path("/run/user")
    assert by_the_shell(copy, environ, tmp_path, "", *prefix) == path


# The fish hook is left out: it detects macOS by a folder of the system, which a test cannot create for itself alone.
@pytest.mark.parametrize("copy", [each for each in COPIES if each != "fish hook"], indirect=True)
@pytest.mark.parametrize("name", ["no variables", "XDG_RUNTIME_DIR", "XDG_RUNTIME_DIR, missing", "TMPDIR"])
def test_on_macos_too(copy: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/uname").write_text("#!/bin/sh\necho Darwin\n")  # for fish
    (tmp_path / "bin/uname").chmod(0o755)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    environ = {"PATH": path, "HOME": str(tmp_path), **ENVIRONMENTS[name](tmp_path)}
    before = "" if copy.startswith("fish") else "OSTYPE=darwin23; "
    assert by_the_shell(copy, environ, tmp_path, before) == by_the_program(environ, tmp_path, "sys.platform = 'darwin'")
