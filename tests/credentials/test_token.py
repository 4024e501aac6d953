"""The values that flow know their life, and cannot be printed."""

import dataclasses
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vx_token.credentials.token import Token
from vx_token.errors import Failure
from vx_token.tokens.model import Origin, State

SECRET = "ya29.secret"
TOKEN = Token(SECRET, expires_at=1000.0, issued_at=400.0, account="someone@example.com")


@pytest.mark.parametrize("value", [TOKEN, State(TOKEN, Origin("x")), [TOKEN], {"token": TOKEN}])
def test_no_representation_holds_the_secret(value: object) -> None:
    assert SECRET not in f"{value!r} {value!s} {value}"
    assert SECRET not in "".join(traceback.format_exception(ValueError(value)))


def test_a_token_lives_until_its_end_and_not_an_instant_longer() -> None:
    assert TOKEN.alive(999.999)
    assert not TOKEN.alive(1000.0)
    assert State(TOKEN).live(999.0) is TOKEN
    assert State(TOKEN).live(1000.0) is None
    assert State().live(0.0) is None


@given(st.floats(-1e6, 1e6))
def test_a_clock_that_went_back_adds_no_life(now: float) -> None:
    assert TOKEN.remaining(now) <= TOKEN.lifetime == 600.0
    assert TOKEN.alive(now) == (TOKEN.remaining(now) > 0)


@pytest.mark.parametrize("value", [TOKEN, Origin("x"), Failure("login", "text"), State()])
def test_the_values_cannot_be_changed(value: object) -> None:
    name = dataclasses.fields(value)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, "other")
