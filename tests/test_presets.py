"""Extra variables: presets and assignments of the user's own."""

import pytest

from vx_token import presets, values
from vx_token.presets import FORBIDDEN, PRESETS

FIELDS = {
    "token": "ya29.t",
    "base_url": "https://host/v1/x",
    "host": "https://host",
    "path": "v1/x",
    "model": "google/gemini",
    "profile": "gemini",
}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_made_of_assignments_that_a_user_may_write(name: str) -> None:
    assert presets.problem(name) == ""
    assert [presets.problem(assignment) for assignment in PRESETS[name]] == [""] * len(PRESETS[name])


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_gives_whole_values(name: str) -> None:
    found = presets.expand((name,), FIELDS)
    assert len(found) == len(PRESETS[name])
    assert all(value and "{" not in value for value in found.values())


@pytest.mark.parametrize("name", PRESETS)
def test_a_value_that_would_be_empty_is_left_out(name: str) -> None:
    found = presets.expand((name,), FIELDS | {"model": ""})
    assert not any("MODEL" in variable for variable in found)
    assert all(found.values())


def test_goose_gets_a_host_and_a_path_that_make_the_base_url() -> None:
    found = presets.expand(("goose",), FIELDS)
    assert f"{found['OPENAI_HOST']}/{found['OPENAI_BASE_PATH']}" == FIELDS["base_url"] + "/chat/completions"


def test_a_users_own_assignment_is_filled_in_and_kept_to_the_letter() -> None:
    found = presets.expand(("A={token}", 'B=a "b" $c {profile}={model}', "C=d=e"), FIELDS)
    assert found == {"A": "ya29.t", "B": 'a "b" $c gemini=google/gemini', "C": "d=e"}


def test_a_field_inside_a_value_is_not_filled_in_again() -> None:
    assert presets.expand(("A={model}",), FIELDS | {"model": "{token}"}) == {"A": "{token}"}


@pytest.mark.parametrize(
    "item",
    [
        "nonsense", "", "=x", "A=", "1A=x", "A B=x", "A-B=x", "A='x'", "A=x\ny", "A=x\x00", "A=x\x7f", "A=\x85x",
        "A=\udcff", "A={tokn}", "A={}", "PATH=/tmp", "LD_PRELOAD=x", "IFS=x", "OPENAI_API_KEY=x", "OPENAI_BASE_URL=x",
        "OPENAI_API_BASE=x", "OPENAI_API_BASE_URL=x", "VX_TOKEN_CONFIG=x",
        "MANPATH=x", "TTYIDLE=x", "LANG=x", *(f"{name}=x" for name in FORBIDDEN),
    ],
)  # fmt: skip
def test_what_could_do_harm_is_refused_with_a_reason(item: str) -> None:
    assert presets.problem(item)
    with pytest.raises(values.InvalidError, match="impossible item"):
        values.exports([item])
