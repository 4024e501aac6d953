"""The setting `files`: which paths, formats and modes it accepts."""

from pathlib import Path

import pytest

from vx_token.config import templates
from vx_token.config.load import parse_config
from vx_token.config.model import OutputFile
from vx_token.errors import ConfigError

CONFIG = Path("/etc/vx/config.toml")


def parsed(table: str, more: str = "") -> tuple[OutputFile, ...]:
    text = f'[profiles.x]\nproject = "demo"\n[[profiles.x.files]]\n{table}\n{more}'
    return parse_config(text, CONFIG, {"HOME": "/home/me"}, {}, Path("/")).profile("x").files


def test_a_path_alone_is_enough() -> None:
    assert parsed('path = "~/.config/tool/key"') == (OutputFile("/home/me/.config/tool/key", "token", 0o600, False),)


def test_every_key_is_read() -> None:
    table = (
        'path = "/srv/key.json"\nformat = \'{"key": "{token}", "until": "{expires_at}"}\'\nmode = "0640"\nadopt = true'
    )
    (file,) = parsed(table)
    assert (file.path, file.mode, file.adopt) == ("/srv/key.json", 0o640, True)
    assert file.format == '{"key": "{token}", "until": "{expires_at}"}'


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("", "path is missing"),
        ('path = "key"', "path is not an absolute path"),
        ('path = "~/"', "path is not an absolute path"),
        ('path = "/srv/"', "path is not an absolute path"),
        ('path = "/srv/.."', "path is not an absolute path"),
        ('path = "~other/key"', "path is not an absolute path"),
        ('path = "/k"\nformat = "tokn"', "format is neither a format nor a template"),
        ('path = "/k"\nformat = "{tokn}"', "format has an unknown field: {tokn}; did you mean 'token'?"),
        ('path = "/k"\nmode = "0644"', "mode has an unknown value"),
        ('path = "/k"\nmode = 600', "mode must be a string"),
        ('path = "/k"\nadopt = "yes"', "adopt must be true or false"),
        ('path = "/k"\nformats = "json"', "formats is not a known key"),
    ],
)
def test_an_error_names_the_file_by_number_and_its_key(table: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(table)
    assert caught.value.message.startswith(f"{CONFIG}: profiles.x.files number 1: {problem}")


def test_no_two_files_have_one_path() -> None:
    with pytest.raises(ConfigError, match=r"profiles.x.files and profiles.x.files both write /k"):
        parsed('path = "/k"', '[[profiles.x.files]]\npath = "/a/../k"')


def test_only_fields_are_replaced_so_that_a_template_may_be_json() -> None:
    fields = dict.fromkeys(templates.FIELDS, "") | {"token": "{model}", "model": "m"}
    assert templates.fill('{"a": {}, "b": "{token}"} {0} {model}', fields) == '{"a": {}, "b": "{model}"} {0} m'
