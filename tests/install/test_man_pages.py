"""Setup links the manual pages, `man` finds them, and undo removes exactly these links."""

import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import REPOSITORY, Box
from shells import need
from vx_token.cli.main import cli
from vx_token.install import man_pages
from vx_token.system import shipped


@pytest.fixture
def folder(box: Box) -> Path:
    return box.home / ".local/share/man/man1"


def test_the_pages_fit_the_commands() -> None:
    script = [sys.executable, str(REPOSITORY / "scripts/man-pages"), "--check"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    names = {"vx-token.1", *(f"vx-token-{name}.1" for name in cli.commands)}
    assert {page.name for page in shipped.man_pages()} == names


def test_man_shows_a_linked_page(box: Box, folder: Path) -> None:
    step = man_pages.missing(box.environ)
    assert step
    step.perform()
    assert man_pages.missing(box.environ) is None
    environ = box.environ | {"MANPATH": str(folder.parent), "MANWIDTH": "90", "PAGER": "cat", "MANPAGER": "cat"}
    done = subprocess.run(
        [need("man"), "vx-token-print"], env=environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--min-ttl DURATION" in done.stdout
    assert "vx-token print [OPTIONS]" in done.stdout


def test_each_page_is_valid() -> None:
    argv = [need("groff"), "-man", "-Tutf8", "-ww", "-z", *map(str, shipped.man_pages())]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_undo_removes_links_also_of_an_older_place_and_nothing_else(box: Box, folder: Path) -> None:
    folder.mkdir(parents=True)
    kept = folder / "vx-token-print.1"
    kept.write_text("mine")
    of_pipx = folder / "vx-token-env.1"
    of_pipx.symlink_to("/venv/share/man/man1/vx-token-env.1")
    moved = folder / "vx-token.1"
    moved.symlink_to("/gone/vx_token/man/vx-token.1")
    step = man_pages.missing(box.environ)
    assert step
    assert {kept, of_pipx}.isdisjoint(step.links)
    step.perform()
    assert moved.resolve() == shipped.shipped("man/vx-token.1")
    removal = man_pages.removal(box.environ)
    assert removal
    removal.perform()
    assert sorted(folder.iterdir()) == [of_pipx, kept]
    assert man_pages.removal(box.environ) is None
