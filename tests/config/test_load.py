"""The configuration: every key good and bad, precedence, and nothing but ConfigError for any mistake."""

import itertools
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vx_token.config import load
from vx_token.config.load import GATEWAY_KEYS, PROFILE_KEYS, load_config, parse_config
from vx_token.config.model import Config, Gateway, OutputFile, Profile
from vx_token.errors import ConfigError

PATH = Path("/etc/vx/config.toml")
PLAIN = '[profiles.gemini]\nproject = "demo"\n'


def parse(content: str, environ: Mapping[str, str] | None = None, **argv: str) -> Config:
    return parse_config(content, PATH, environ or {"HOME": "/home/someone"}, argv, Path("/work"))


def refused(content: str, environ: Mapping[str, str] | None = None, **argv: str) -> ConfigError:
    with pytest.raises(ConfigError) as found:
        parse(content, environ, **argv)
    assert found.value.exit_code == 3
    assert found.value.hint
    assert "\n" not in found.value.message + found.value.hint
    return found.value


def profile(line: str) -> str:
    """A configuration of one profile that is complete but for `line`."""
    needed = "" if line.startswith("project") else 'project = "demo"\n'
    return f"[profiles.gemini]\n{needed}{line}\n"


GOOD: Mapping[str, list[tuple[str, object]]] = {
    "project": [('"my-project"', "my-project"), ('"example.com:p"', "example.com:p")],
    "location": [('"us-central1"', "us-central1"), ('"eu"', "eu")],
    "endpoint": [('"1234567890"', "1234567890"), ('"openapi"', "openapi")],
    "base_url": [('"https://h/v1/"', "https://h/v1/"), ('""', "")],
    "api_version": [('"v1beta1"', "v1beta1")],
    "credentials": [('"/k.json"', "/k.json"), ('"k.json"', "/etc/vx/k.json"), ('"~/k"', "/home/someone/k"), ('""', "")],
    "account": [('"active"', "active"), ('"me@work.example"', "me@work.example"), ('""', "")],
    "impersonate": [('"a@p.iam.gserviceaccount.com"', "a@p.iam.gserviceaccount.com"), ('""', "")],
    "lifetime": [('"12h"', 43200.0), ('"90s"', 90.0)],
    "scopes": [('["https://scope"]', ("https://scope",))],
    "quota_project": [('"billing"', "billing"), ('""', "")],
    "model": [('"google/gemini-2.5-flash"', "google/gemini-2.5-flash"), ('"meta/a@001-maas"', "meta/a@001-maas")],
    "mode": [('"gateway"', "gateway"), ('"direct"', "direct")],
    "refresh_margin": [('"20m"', 1200.0), ('""', None)],
    "export": [('["goose", "A_KEY={token}"]', ("goose", "A_KEY={token}"))],
    "on_refresh": [
        ('["a", "b c"]', (("a", "b c"),)),
        ("\"a 'b c'\"", (("a", "b c"),)),
        ('[["a", "b c"], ["d"]]', (("a", "b c"), ("d",))),
        ("[]", ()),
    ],
    "on_login_needed": [('"notify-send login"', (("notify-send", "login"),)), ('""', ())],
    "aliases": [('{ fast = "google/x" }', {"fast": "google/x"})],
    "models": [('["google/x"]', ("google/x",))],
    "list_publishers": [('["google"]', ("google",))],
    "publisher": [('"meta"', "meta"), ('""', "")],
    "files": [('[{ path = "~/k" }]', (OutputFile("/home/someone/k"),)), ("[]", ())],
    "headers": [('{ X-Goog-Y = "z é" }', {"X-Goog-Y": "z é"})],
}

BAD: Mapping[str, list[str]] = {
    "project": ["5", '"My Project"', '"a/b"', '"-a"', '"a\\u0000"', "[]", "true"],
    "location": ["1", '"US"', '"us/../x"', '""', '"a.b"'],
    "endpoint": ['"a/b"', '""', "123", '"a?b"'],
    "base_url": ["1", '"nonsense"', '"http://example.com"', '"https://u:p@h"', '"https://h/?a"', '"https://h/\'"'],
    "api_version": ['"v2"', '""', "1"],
    "credentials": ["1", '"a\\nb"', "[]"],
    "account": ["1", '"a b"', '"a\\nb"', "[]", '"a\'b"'],
    "impersonate": ['"someone"', '"a@b@c"', '"a b@c"', '"a/b@c"', '"a@b\\u0007"', "1"],
    "lifetime": ['"0s"', '"13h"', '"soon"', '""', "3600", "1.5"],
    "scopes": ['"one"', "[1]", '["a b"]', '[""]', '["a\\u0000"]'],
    "quota_project": ["1", '"A"', '"a b"'],
    "model": ['"a b"', "1", '"a\'b"', '"a\\u0000b"', '"a\\u001bb"', '"\\u0085"'],
    "mode": ['"proxy"', '""', "true"],
    "refresh_margin": ['"0s"', '"never"', "60", '"13h"'],
    "export": ['"goose"', '["nonsense"]', "[1]", '["PATH=/x"]', '["OPENAI_ORG_ID=x"]', "[[]]"],
    "on_refresh": [
        "1",
        '"open \'quote"',
        "[1]",
        '["a\\u0000"]',
        "[[1]]",
        '[["a"], "b c"]',
        '["a", ["b"]]',
        '[[["a"]]]',
    ],
    "on_login_needed": ["true", "[[]]", '[["a"], []]', '[["a\\u0000"]]'],
    "aliases": ['"a"', "{ a = 1 }", '{ a = "" }', '{ a = "\\n" }'],
    "models": ['"a"', '["a b"]'],
    "list_publishers": ['"google"', '["a b"]'],
    "publisher": ['"A/B"', "1"],
    "files": ['"x"', "[1]"],
    "headers": [
        "[]",
        "{ a = [] }",
        '{ "X Bad Name" = "a" }',
        '{ "X-Bad:" = "a" }',
        '{ X-Bad = "a\\r\\nX: b" }',
        '{ X-Bad = "→" }',
        '{ authorization = "Bearer a" }',
        '{ Host = "a" }',
        '{ Content-Length = "1" }',
        '{ Transfer-Encoding = "chunked" }',
    ],
}


def cases(table: Mapping[str, list[Any]]) -> list[Any]:
    return list(itertools.chain.from_iterable([(key, case) for case in found] for key, found in table.items()))


def test_every_key_has_its_good_and_its_bad_values() -> None:
    assert set(GOOD) == set(BAD) == set(PROFILE_KEYS)


@pytest.mark.parametrize(("key", "case"), cases(GOOD))
def test_a_good_value_is_taken(key: str, case: tuple[str, object]) -> None:
    written, meant = case
    assert getattr(parse(profile(f"{key} = {written}")).profiles["gemini"], key) == meant


@pytest.mark.parametrize(("key", "written"), cases(BAD))
def test_a_bad_value_is_refused_by_file_and_key(key: str, written: str) -> None:
    error = refused(profile(f"{key} = {written}"))
    assert f"{PATH}: profiles.gemini.{key} " in error.message
    assert error.hint.startswith("allowed: ")


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("port = 0", "port"), ("port = 65536", "port"), ('port = "1"', "port"), ('host = "0.0.0.0"', "host"),
        ("enabled = 1", "enabled"), ("unix_socket = 1", "unix_socket"), ("access_log = 'yes'", "access_log"),
        ("allowed_origins = 'x'", "allowed_origins"), ("ca_file = []", "ca_file"), ("colour = 1", "colour"),
        ("metrics_open = 1", "metrics_open"),
    ],
)  # fmt: skip
def test_a_bad_setting_of_the_gateway_is_refused_by_file_and_key(written: str, key: str) -> None:
    assert f"{PATH}: gateway.{key} " in refused(f"{PLAIN}[gateway]\n{written}\n").message


@pytest.mark.parametrize("key", ["unix_socket", "ca_file"])
@pytest.mark.parametrize(
    ("written", "meant"), [("g", "/etc/vx/g"), ("/g", "/g"), ("~/g", "/home/someone/g"), ("", "")], ids=str
)
def test_a_path_of_the_gateways_means_the_same_to_everybody(key: str, written: str, meant: str) -> None:
    assert getattr(parse(f"{PLAIN}[gateway]\n{key} = '{written}'\n").gateway, key) == meant


def test_naming_the_gateway_turns_it_on() -> None:
    assert not parse(PLAIN).gateway.enabled
    assert parse(f"{PLAIN}[gateway]\nport = 9000\n").gateway == Gateway(enabled=True, port=9000)
    assert not parse(f"{PLAIN}[gateway]\nenabled = false\n").gateway.enabled
    assert set(GATEWAY_KEYS) == set(Gateway.__dataclass_fields__)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("nonsense", "not valid TOML"),
        ("a = ", "not valid TOML"),
        ("a = " + "[" * 5000, "not valid TOML"),
        ("a = " + "9" * 5000, "not valid TOML"),
        ("colour = 1", "colour is not a known key"),
        ("[profiles.v1]\nproject = 'p'\n", "the profile name 'v1' "),
        (f"[gateway]\nunix_socket = '{'x' * 120}'\n{PLAIN}", "gateway.unix_socket is too long"),
        (f"default_profile = 'x'\n{PLAIN}", "default_profile is not the name of a profile: 'x'"),
        (f"default_profile = []\n{PLAIN}", "default_profile is not the name of a profile"),
        (f"default_profile = {{}}\n{PLAIN}", "default_profile is not the name of a profile"),
        (f"{PLAIN}[profiles.other]\nproject = 'x'", "default_profile is missing"),
        ("profiles = 1", "profiles must be a table"),
        ("profiles.gemini = 1", "profiles.gemini must be a table"),
        (f"{PLAIN}colour = 'red'", "profiles.gemini.colour is not a known key"),
        (f"gateway = 1\n{PLAIN}", "gateway must be a table"),
        ("[profiles.gemini]\nlocation = 'eu'", "profiles.gemini.project is missing"),
        ("[profiles.gemini]\nproject = ''\nlocation = 'eu'", "profiles.gemini.project is missing"),
    ],
)
def test_a_mistake_is_told_by_file_and_key(content: str, named: str) -> None:
    message = refused(content).message
    assert str(PATH) in message
    assert named in message


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "a b", "../x", "a" * 65, "-a", "ä", "a\\nb", "a\\u0000"]
)
def test_a_profile_name_that_is_no_safe_file_name_is_refused(name: str) -> None:
    error = refused(f'[profiles."{name}"]\nproject = "demo"')
    assert f"{PATH}: the profile name " in error.message


def test_the_only_profile_is_the_default_and_so_is_one_called_default() -> None:
    assert parse(PLAIN).profile().name == "gemini"
    assert parse(f"{PLAIN}[profiles.default]\nproject = 'other'").profile().project == "other"
    assert parse(f"default_profile = 'b'\n{PLAIN}[profiles.b]\nproject = 'other'").profile().name == "b"


def test_default_names_the_default_profile_whatever_that_is_called() -> None:
    assert parse(PLAIN).profile("default").name == "gemini"
    assert parse(PLAIN, {"VX_TOKEN_PROFILE": "default", "VX_TOKEN_MODEL": "m"}).profile().model == "m"


def test_an_unknown_profile_is_told_with_the_known_ones() -> None:
    error = refused(PLAIN, profile="nope")
    assert "'nope'" in error.message
    assert "gemini" in error.hint
    refused(PLAIN, {"VX_TOKEN_PROFILE": "nope"})


def test_without_a_configuration_googles_own_variables_make_the_profile_default() -> None:
    found = parse("", {"GOOGLE_CLOUD_PROJECT": "demo"})
    assert found.profiles == {"default": Profile("default", "demo")}
    assert (
        found.profile().url == "https://aiplatform.googleapis.com/v1/projects/demo/locations/global/endpoints/openapi"
    )
    there = parse("", {"GOOGLE_CLOUD_PROJECT": "demo", "GOOGLE_CLOUD_LOCATION": "us-central1"}).profile()
    assert there.url.startswith("https://us-central1-aiplatform.googleapis.com/")
    assert "GOOGLE_CLOUD_PROJECT" in refused("").hint
    assert refused("", {"GOOGLE_CLOUD_LOCATION": "eu"}).message == "no Google Cloud project is set"
    assert refused("[gateway]", {"GOOGLE_CLOUD_PROJECT": "a b"}).message.startswith("GOOGLE_CLOUD_PROJECT ")


def test_googles_variables_do_not_touch_a_profile_of_the_file() -> None:
    assert parse(PLAIN, {"GOOGLE_CLOUD_PROJECT": "other", "GOOGLE_CLOUD_LOCATION": "eu"}).profile().project == "demo"


def test_a_base_url_is_used_as_it_is_and_needs_no_project() -> None:
    assert parse("[profiles.a]\nbase_url = 'http://127.0.0.1:1/v1/'").profile().url == "http://127.0.0.1:1/v1"


@pytest.mark.parametrize("key", ["project", "location", "endpoint", "model", "impersonate"])
def test_the_command_line_beats_the_environment_beats_the_file_beats_the_defaults(key: str) -> None:
    def value(name: str) -> str:
        return f"{name}@x" if key == "impersonate" else name

    file = profile(f'{key} = "{value("file")}"')
    environ = {f"VX_TOKEN_{key.upper()}": value("env")}
    assert getattr(parse(file, environ, **{key: value("argv")}).profile(), key) == value("argv")
    assert getattr(parse(file, environ).profile(), key) == value("env")
    assert getattr(parse(file).profile(), key) == value("file")
    assert getattr(parse('[profiles.a]\nbase_url = "https://h"').profile(), key) == getattr(Profile("a"), key)


def test_the_environment_and_the_command_line_speak_of_the_profile_in_use_alone() -> None:
    two = f"default_profile = 'gemini'\n{PLAIN}[profiles.b]\nproject = 'other'"
    found = parse(two, {"VX_TOKEN_MODEL": "m"}, profile="b", location="eu").profiles
    assert (found["b"].model, found["b"].location) == ("m", "eu")
    assert (found["gemini"].model, found["gemini"].location) == ("", "global")


@pytest.mark.parametrize(
    ("environ", "argv", "named"),
    [
        ({"VX_TOKEN_LOCATION": "US"}, {}, "VX_TOKEN_LOCATION "),
        ({"VX_TOKEN_REFRESH_MARGIN": "x"}, {}, "VX_TOKEN_REFRESH_MARGIN "),
        ({"VX_TOKEN_MODEL": "a\udcff"}, {}, "VX_TOKEN_MODEL "),
        ({"VX_TOKEN_EXPORT": "nonsense"}, {}, "VX_TOKEN_EXPORT "),
        ({}, {"base_url": "x"}, "option --base-url "),
        ({}, {"project": "A B"}, "option --project "),
    ],
)
def test_a_mistake_outside_the_file_is_told_as_it_was_spelt(
    environ: dict[str, str], argv: dict[str, str], named: str
) -> None:
    assert refused(PLAIN, environ, **argv).message.startswith(named)


def test_lists_in_the_environment_are_parted_by_commas_or_spaces() -> None:
    found = parse(PLAIN, {"VX_TOKEN_SCOPES": "https://a,https://b c", "VX_TOKEN_ALIASES": "ignored"}).profile()
    assert found.scopes == ("https://a", "https://b", "c")


def test_a_relative_credential_path_starts_at_the_file_s_folder_or_the_working_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse(profile('credentials = "../k"')).profile().credentials == "/etc/k"
    assert parse(PLAIN, {"HOME": "/h"}, credentials="~/k").profile().credentials == "/h/k"
    (tmp_path / "config.toml").write_text(PLAIN)
    environ = {"VX_TOKEN_CONFIG": "config.toml", "VX_TOKEN_CREDENTIALS": "k"}
    assert load_config(environ).profile().credentials == str(tmp_path / "k")
    assert load_config(environ, {"credentials": "~/k"}).profile().credentials == str(Path.home() / "k")


def test_parsing_depends_on_its_arguments_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = (
        'default_profile = "gemini"\n'
        + profile('credentials = "~/k"')
        + '[profiles.other]\nproject = "demo"\ncredentials = "k"\n'
    )

    def parsed() -> Config:
        return parse(content, {"HOME": "/h", "VX_TOKEN_CREDENTIALS": "k", "VX_TOKEN_PROFILE": "other"})

    before = parsed()
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "VX_TOKEN_PROJECT", "VX_TOKEN_RUNTIME_DIR", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.setenv(name, str(tmp_path))
    assert parsed() == before
    assert [each.credentials for each in before.profiles.values()] == ["/h/k", "/work/k"]


def test_options_that_are_no_settings_are_left_alone() -> None:
    assert parse(PLAIN, nonsense="x").profile() == Profile("gemini", "demo")


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        parse(PLAIN).default_profile = "x"  # type: ignore[misc]


names = st.sampled_from(["gemini", "default", "b"]) | st.text(max_size=5)
scalars = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=5
)
tables = st.dictionaries(st.sampled_from([*PROFILE_KEYS, *GATEWAY_KEYS]) | names, anything, max_size=6)
good_tables = st.fixed_dictionaries(
    {"project": st.from_regex(r"[a-z]{6,12}", fullmatch=True)},
    optional={
        "location": st.sampled_from(["global", "us", "eu", "us-central1"]),
        "endpoint": st.from_regex(r"[1-9][0-9]{3,9}", fullmatch=True),
        "model": st.from_regex(r"[a-z]{1,8}/[a-z0-9.-]{1,8}", fullmatch=True),
    },
)
profile_tables = good_tables | st.builds(lambda good, bad: {**good, **bad}, good_tables, tables)


def toml(value: object) -> str:
    """A value in TOML's inline form; JSON's text is TOML's but for lone surrogates, which Hypothesis does not draw."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def outcome(content: str, environ: Mapping[str, str], argv: Mapping[str, str]) -> Config | ConfigError:
    try:
        return parse_config(content, PATH, environ, argv, Path("/work"))
    except ConfigError as error:
        return error


def total(content: str, environ: Mapping[str, str], argv: Mapping[str, str]) -> Config | None:
    """Anything gives a whole configuration, which is returned, or a ConfigError that says something in one line."""
    found = outcome(content, environ, argv)
    if isinstance(found, ConfigError):
        assert found.message.isprintable()
        assert found.hint.isprintable()
        assert found.hint
        return None
    for each in (*found.profiles.values(), found.profile()):
        assert each.url.startswith(("https://", "http://"))
    return found


PLAIN_KEYS = ("project", "location", "endpoint", "model")
"""Keys whose value is a string that is taken as it is."""


documents = st.fixed_dictionaries({}, optional={"default_profile": names | anything, "gateway": tables | anything})


@given(st.just({}) | documents, profile_tables)
def test_any_toml_is_taken_or_refused(document: dict[str, Any], table: dict[str, Any]) -> None:
    lines = [f"{key} = {toml(value)}" for key, value in {**document, "profiles": {"b": table}}.items()]
    found = total("\n".join(lines), {}, {})
    if found is not None:
        assert set(table) <= set(PROFILE_KEYS)
        assert isinstance(document.get("gateway", {}), dict)
        assert list(found.profiles) == ["b"]
        assert found.default_profile == document.get("default_profile", "b") == "b"
        for key in {*PLAIN_KEYS} & {*table}:
            assert getattr(found.profiles["b"], key) == table[key]


@given(
    st.dictionaries(st.sampled_from(["project", "model"]), st.from_regex(r"[a-z]{6,12}", fullmatch=True), min_size=2)
)
def test_good_values_are_taken_and_one_unknown_key_refuses_all(table: dict[str, str]) -> None:
    found = total(f"profiles.b = {toml(table)}", {}, {})
    assert found is not None
    assert {key: getattr(found.profile(), key) for key in table} == table
    assert total(f"profiles.b = {toml({**table, 'colour': 'blue'})}", {}, {}) is None


@given(st.dictionaries(names, profile_tables | anything, max_size=3))
def test_any_set_of_profiles_is_taken_or_refused(profiles: dict[str, Any]) -> None:
    found = total(f"profiles = {toml(profiles)}", {"GOOGLE_CLOUD_PROJECT": "demo"}, {})
    if found is not None:
        assert set(found.profiles) == set(profiles or {"default"})
        assert found.default_profile in found.profiles


@given(st.text())
@example("\ufeff" + PLAIN)
@example("a = 2024-99-99")
def test_any_text_is_taken_or_refused(content: str) -> None:
    found = total(content, {"GOOGLE_CLOUD_PROJECT": "demo"}, {})
    try:
        document = tomllib.loads(content)
    except ValueError:
        assert found is None
    else:
        assert (found is not None) == (not document)


def texts(*keys: str) -> st.SearchStrategy[dict[str, str]]:
    """Good values of some keys, most often with any text for others."""
    others = st.dictionaries(st.sampled_from(keys), st.text(), max_size=3)
    return good_tables | st.builds(lambda good, bad: {**good, **bad}, good_tables, others)


@given(texts(*PROFILE_KEYS), texts("profile", *PROFILE_KEYS))
def test_any_environment_and_any_options_are_taken_or_refused(table: dict[str, str], argv: dict[str, str]) -> None:
    environ = {f"VX_TOKEN_{key.upper()}": value for key, value in table.items()}
    options = {key: value for key, value in argv.items() if key not in load._FILE_ONLY}
    found = total(PLAIN, environ, options)
    for key in PLAIN_KEYS if found else ():
        chosen = options.get(key, environ.get(f"VX_TOKEN_{key.upper()}"))  # an empty option unsets the variable
        if found and chosen:
            assert getattr(found.profile(), key) == chosen


def written(path: Path, content: bytes) -> dict[str, str]:
    path.write_bytes(content)
    return {"VX_TOKEN_CONFIG": str(path)}


def test_a_file_is_read_with_the_stamp_it_had(tmp_path: Path) -> None:
    environ = written(tmp_path / "c.toml", b"\xef\xbb\xbf" + PLAIN.encode())
    found = load_config(environ)
    assert found.path == tmp_path / "c.toml"
    assert found.stamp
    written(tmp_path / "c.toml", PLAIN.encode() + b"# changed")
    assert load_config(environ).stamp != found.stamp


def broken_files() -> list[Callable[[Path], None]]:
    return [
        lambda path: None,
        lambda path: path.mkdir(),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.symlink_to(path),
        lambda path: path.write_bytes(b"\x00"),
    ]


@pytest.mark.parametrize("make", broken_files(), ids=["missing", "folder", "bytes", "loop", "nul"])
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "c.toml"
    make(path)
    with pytest.raises(ConfigError) as found:
        load_config({"VX_TOKEN_CONFIG": str(path)})
    assert str(path) in found.value.message
    assert found.value.hint


def test_the_file_in_its_default_place_need_not_exist(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "GOOGLE_CLOUD_PROJECT": "demo"}
    assert load_config(environ).profile().project == "demo"
    (tmp_path / ".config/vx-token").mkdir(parents=True)
    (tmp_path / ".config/vx-token/config.toml").write_text(PLAIN)
    assert load_config(environ).profile().name == "gemini"


@pytest.mark.parametrize(("written", "near"), [("US-Central1", "us-central1"), ("EU", "eu"), ("us_east4", "us-east4")])
def test_a_location_of_the_wrong_form_is_answered_by_the_right_one(written: str, near: str) -> None:
    assert refused(profile(f'location = "{written}"')).hint.endswith(f"did you mean {near!r}?")


def test_an_account_and_a_credential_file_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="account cannot be combined with credentials") as raised:
        parse(profile('credentials = "/k"\naccount = "active"'))
    assert "gcloud auth login" in raised.value.hint


@pytest.mark.parametrize(
    ("settings", "options", "login"),
    [
        ('account = "active"', {"credentials": "/k"}, ("/k", "")),
        ('credentials = "/k"', {"account": "me@work.example"}, ("", "me@work.example")),
        ('account = "active"', {"account": "me@work.example"}, ("", "me@work.example")),
        ('credentials = "/k"\naccount = ""', {}, ("/k", "")),
    ],
)
def test_an_option_replaces_the_other_kind_of_login(settings: str, options: dict[str, str], login: object) -> None:
    chosen = parse(profile(settings), None, **options).profile()
    assert (chosen.credentials, chosen.account) == login
