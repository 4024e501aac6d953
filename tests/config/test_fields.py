"""Checks of single values: the right type comes out, or a reason and what would be allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vx_token.config import duration, fields
from vx_token.config.fields import Check, InvalidError

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)

CHECKS: dict[str, tuple[Check, type]] = {
    "text": (fields.text, str),
    "boolean": (fields.boolean, bool),
    "integer": (fields.integer(1, 10), int),
    "choice": (fields.choice("a", "b"), str),
    "matching": (fields.matching(r"[^\s]+", "a word"), str),
    "duration": (fields.duration(1, 3600, "1m"), float),
    "texts": (fields.texts, tuple),
    "mapping": (fields.mapping, dict),
    "headers": (fields.headers, dict),
    "commands": (fields.commands, tuple),
    "url": (fields.url, str),
    "exports": (fields.exports, tuple),
}


def checked(check: Check, value: object) -> object:
    """What the check makes of the value: its own type, or the refusal."""
    try:
        return check(value)
    except InvalidError as error:
        return error


@pytest.mark.parametrize("pasted", ["AIzaSyA-example", "ya29.a0example"])
def test_a_key_or_token_in_place_of_a_path_is_refused_without_repeating_it(pasted: str) -> None:
    with pytest.raises(InvalidError) as caught:
        fields.credential_path(pasted)
    assert caught.value.problem == "is an API key or a token, not a path"
    assert pasted not in caught.value.problem + caught.value.allowed
    assert fields.credential_path("keys/AIza.json") == "keys/AIza.json"


@pytest.mark.parametrize("name", CHECKS)
@given(value=anything)
def test_any_value_is_taken_in_its_own_type_or_refused_with_a_reason(name: str, value: object) -> None:
    check, kind = CHECKS[name]
    found = checked(check, value)
    if isinstance(found, InvalidError):
        assert found.problem
        assert found.allowed
    else:
        assert type(found) is kind


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("1s", 1), ("90s", 90), ("5m", 300), ("1h", 3600), ("1h30m", 5400), ("1h0m1s", 3601), ("0s", 0)],
)
def test_a_duration_is_read_in_seconds(written: str, seconds: float) -> None:
    assert duration.seconds(written) == seconds


@pytest.mark.parametrize("written", ["", "5", "m", "5 m", "-5m", "5m1h", "1d", "1.5h", "5M", "1h ", "99999999s", "∞"])
def test_what_is_no_duration_is_none(written: str) -> None:
    assert duration.seconds(written) is None


@given(st.integers(1, 12 * 3600))
def test_a_duration_reads_as_it_was_written(total: int) -> None:
    assert duration.seconds(f"{total // 3600}h{total % 3600 // 60}m{total % 60}s") == total


@pytest.mark.parametrize("written", ["0s", "2h", "nonsense", "", 60, 60.0, True, None])
def test_a_duration_out_of_bounds_is_refused(written: object) -> None:
    with pytest.raises(InvalidError) as found:
        fields.duration(1, 3600, "1m")(written)
    assert "from 1s to 1h" in found.value.allowed


@pytest.mark.parametrize(
    "url",
    [
        "https://aiplatform.googleapis.com/v1/projects/p/locations/global/endpoints/openapi",
        "https://psc.example.internal:8443/v1",
        "http://127.0.0.1:8080/v1",
        "http://localhost/v1",
        "http://[::1]:80/v1",
        "http://10.1.2.3/v1",
        "http://192.168.0.1/v1",
    ],
)
def test_a_url_that_keeps_the_token_from_strangers_is_taken(url: str) -> None:
    assert fields.url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "", "host/v1", "ftp://host/", "https://", "https:///v1", "https://user@host/", "https://user:pw@host/",
        "https://host/?a=b", "https://host/?", "https://host/#x", "https://host/#", "https://host:port/",
        "https://host:99999/", "https://[::1/", "https://ho st/", "https://host/a'b", "https://host/\n", "https://höst/",
        "http://example.com/", "http://8.8.8.8/", "http://127.0.0.1.example.com/", "http://localhost.example.com/",
        "http://127.0.0.1@example.com/", "https://good.example\\@evil.example/", "file:///etc/passwd", 5, None,
    ],
)  # fmt: skip
def test_a_url_that_is_none_or_leaks_is_refused(url: object) -> None:
    with pytest.raises(InvalidError):
        fields.url(url)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("notify-send 'log in'", (("notify-send", "log in"),)),
        (["notify-send", "log in"], (("notify-send", "log in"),)),
        ("", ()),
        ([], ()),
        ("a $b `c`", (("a", "$b", "`c`"),)),
        ([["a", "b c"]], (("a", "b c"),)),
        ([["a", "b c"], ["d"]], (("a", "b c"), ("d",))),
    ],
)
def test_a_command_is_a_list_of_arguments_and_several_are_a_list_of_such(
    written: object, meant: tuple[tuple[str, ...], ...]
) -> None:
    assert fields.commands(written) == meant


@pytest.mark.parametrize(
    "written",
    ["open 'quote", ["a", 1], ["a\0b"], {"a": "b"}, 5, None, [[]], [["a"], []], [["a"], "b"], ["a", ["b"]], [[1]]],
)
def test_what_is_no_command_is_refused(written: object) -> None:
    with pytest.raises(InvalidError):
        fields.commands(written)


def test_true_is_no_number_and_one_is_no_truth() -> None:
    with pytest.raises(InvalidError):
        fields.integer(0, 5)(True)
    with pytest.raises(InvalidError):
        fields.boolean(1)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"),
        (0, "0s"),
        (42.9, "42s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h00m"),
        (7500, "2h05m"),
    ],
)
def test_people_are_shown_two_units_at_most(seconds: float, shown: str) -> None:
    assert duration.shown(seconds) == shown
