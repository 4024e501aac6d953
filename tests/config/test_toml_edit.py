"""Edits of the configuration remove settings without touching the rest."""

import tomllib

import pytest

from vx_token.config.toml_edit import with_profile

TEXT = """\
# mine
[profiles.a]  # first
project = "p"  # kept
base_url = 'https://x.example/v1'  # goes with its line
model = "m"
[profiles.b]
base_url = "https://y.example/v1"
"""


def test_a_removed_setting_takes_its_line_and_nothing_else() -> None:
    assert with_profile(TEXT, "a", {"base_url": None, "model": None, "publisher": None}) == TEXT.replace(
        "base_url = 'https://x.example/v1'  # goes with its line\nmodel = \"m\"\n", ""
    )
    assert with_profile(TEXT, "a", {"base_url": None, "model": "n"}).count("base_url") == 1


def test_a_new_profile_has_no_removed_settings() -> None:
    assert with_profile("", "c", {"project": "p", "model": None}) == '[profiles.c]\nproject = "p"\n'


def test_a_form_that_cannot_be_removed_is_refused() -> None:
    with pytest.raises(tomllib.TOMLDecodeError):
        with_profile('[profiles.a]\nproject = "p"\nmodel = """\nm"""\n', "a", {"model": None})
