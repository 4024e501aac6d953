"""Settings files are changed in place: comments, order, white space, line ends and encoding stay."""

import json
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import settings as few_examples
from hypothesis import strategies as st

from vx_token.tools import document, jsonc, settings
from vx_token.tools.document import NotEditableError
from vx_token.tools.settings import Setting

PROVIDER = Setting(("provider", "vx-token"), {"url": "http://127.0.0.1/v1", "models": {"a/b": {}}})
ITEM = Setting(("list",), {"name": "ours"}, is_item=True)


def changed(content: bytes | None, form: str, *given: Setting) -> tuple[bytes, list[settings.Applied]]:
    applied: list[settings.Applied] = []

    def put(values: Any) -> Any:
        after, entries = settings.apply(values, given)
        applied.extend(entries)
        return after

    return document.changed(content, form, put), applied


def taken(content: bytes, form: str, applied: list[settings.Applied]) -> tuple[bytes, list[str]]:
    kept: list[str] = []

    def take(values: Any) -> Any:
        kept.extend(settings.withdraw(values, applied))
        return values

    return document.changed(content, form, take), kept


FILES = {
    "jsonc": (
        "json",
        b'// mine\r\n{\r\n\t"b": [1, 2],  // two\r\n\t/* last */ "a": {"x": "y"} // end\r\n}\r\n',
    ),
    "trailing comma": ("json", b'{\n    "a": 1,\n    "provider": {\n        "x": {"y": []},\n    },\n}'),
    "inline": ("json", b'{"provider": {"x": 1}, "z": null}'),
    "empty table": ("json", b'\xef\xbb\xbf{ "provider": {}, "z": "\xc3\xa9" }\n'),
    "toml": ("toml", b'# mine\nz = 1   # one\n\n[provider.x]\na = "b"\n# end\n'),
    "toml with CRLF": ("toml", b'# mine\r\n"z" = 0x10\r\n'),
    "yaml": ("yaml", b"# mine\nz: 'one'  # quoted\nlist:\n  - name: x   # theirs\n\n# end\na: \"b\"\n"),
    "yaml with another style": (
        "yaml",
        b"---\nlist:\n- 1\n- 2\nprovider:\n    x: {y: 1}\n",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_every_line_of_the_user_stays_and_comes_back(name: str) -> None:
    form, before = FILES[name]
    after, applied = changed(before, form, PROVIDER, ITEM)
    values = document.parsed(after, form)
    assert values["provider"]["vx-token"] == PROVIDER.value
    assert ITEM.value in values["list"]
    for line in before.splitlines():
        assert line.strip(b" \t,{}\xef\xbb\xbf").split(b"//")[0].strip()[:8] in after
    for comment in (b"// mine", b"// two", b"/* last */", b"// end", b"# one", b"# mine", b"# end", b"# theirs"):
        assert (comment in before) == (comment in after)
    assert (b"\r\n" in before) == (b"\r\n" in after)
    assert after.startswith(b"\xef\xbb\xbf") == before.startswith(b"\xef\xbb\xbf")
    again, kept = taken(after, form, applied)
    assert document.parsed(again, form) == document.parsed(before, form)
    assert kept == []


@pytest.mark.parametrize("name", ["jsonc", "trailing comma", "inline", "yaml"])
def test_taking_out_restores_the_very_bytes_of_an_ordinary_file(name: str) -> None:
    form, before = FILES[name]
    provider = Setting(("vx-token",), PROVIDER.value)
    after, applied = changed(before, form, provider)
    assert after != before
    assert taken(after, form, applied) == (before, [])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=4), VALUES, max_size=4),
    st.dictionaries(st.text(max_size=4), VALUES, max_size=4),
    st.sampled_from([None, 2, 4, "\t"]),
)
def test_json_is_edited_into_any_value(before: dict[str, Any], after: dict[str, Any], indent: int | str | None) -> None:
    text = json.dumps(before, indent=indent)
    assert jsonc.parse(jsonc.patched(text, after)) == after
    assert jsonc.patched(text, before) == text


WORDS = st.text("ab:#-'\"{}[]\\ \té", max_size=6)
TABLES = st.dictionaries(WORDS, WORDS | st.integers() | st.lists(WORDS, max_size=2), min_size=1, max_size=4)


@few_examples(max_examples=50)
@given(TABLES, st.sampled_from(["yaml", "toml"]))
def test_yaml_and_toml_without_our_provider_have_the_same_values_and_lines(before: dict[str, Any], form: str) -> None:
    before = {key: value for key, value in before.items() if key not in {"provider", "list"}}
    content = document.changed(None, form, lambda values: put_all({} if values is None else values, before))
    try:
        after, applied = changed(content, form, PROVIDER, ITEM)
    except NotEditableError:
        reject()  # Hypothesis fails if that is nearly always so
    again, kept = taken(after, form, applied)
    assert kept == []
    assert document.parsed(again, form) == document.parsed(content, form)
    assert again.split() == content.split()


def put_all(document: Any, values: dict[str, Any]) -> Any:
    for key, value in values.items():
        document[key] = value
    return document


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4), st.sampled_from([2, 4, "\t"]))
def test_json_with_our_provider_and_without_it_is_byte_by_byte_as_before(before: dict[str, Any], indent: Any) -> None:
    before = {"first": 1, **before, "last": 2}
    before.pop("provider", None)
    content = (json.dumps(before, indent=indent) + "\n").encode()
    after, applied = changed(content, "json", PROVIDER)
    assert taken(after, "json", applied) == (content, [])


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("json", b'{"a": 1'),
        ("json", b'{"a": 1, "a": 2}'),
        ("json", b"[1]"),
        ("json", b'{"provider": 1}'),
        ("yaml", b"a: [1\n"),
        ("yaml", b"a:   1\nlist:\n    -    x\n"),
        ("yaml", b"- x\n"),
        ("toml", b"a = \n"),
        ("toml", b"provider = 1\n"),
        ("json", b'{"a": "\xff"}'),
        ("yaml", b"a: 1\r\nb: 2\n"),
    ],
)
def test_a_file_that_cannot_be_kept_as_it_is_is_refused(form: str, content: bytes) -> None:
    with pytest.raises(NotEditableError):
        changed(content, form, PROVIDER)


def test_comments_stay_in_a_file_without_values() -> None:
    for form, content in (("json", b"// nothing yet\n"), ("yaml", b"# nothing yet\n"), ("toml", b"# nothing yet\n")):
        after, _ = changed(content, form, PROVIDER)
        assert after.startswith(content)
        assert document.parsed(after, form)["provider"]["vx-token"] == PROVIDER.value


def test_a_replaced_value_comes_back_and_a_changed_one_stays() -> None:
    before = b"model: gpt  # mine\nkey: a\n"
    after, applied = changed(before, "yaml", Setting(("model",), "ours"), Setting(("key",), "ours"))
    assert after == b"model: ours # mine\nkey: ours\n"  # the comment stays in its column
    edited = after.replace(b"key: ours", b"key: theirs\nmore: 1")
    assert taken(edited, "yaml", applied) == (b"model: gpt  # mine\nkey: theirs\nmore: 1\n", ["key"])


def test_a_default_does_not_replace_a_value() -> None:
    before = b'{"model": "mine"}'
    assert changed(before, "json", Setting(("model",), "ours", is_default=True)) == (before, [])


def test_a_file_of_variables_keeps_its_other_lines() -> None:
    before = b"# mine\nA=1\nKEY=old=x\nB=\n"
    after, applied = changed(before, "dotenv", Setting(("KEY",), "new"), Setting(("URL",), "http://x"))
    assert after == b"# mine\nA=1\nKEY=new\nB=\nURL=http://x\n"
    assert taken(after, "dotenv", applied) == (before, [])
