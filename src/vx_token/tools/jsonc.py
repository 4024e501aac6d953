"""Edits of JSON with comments (JSONC) that keep comments, order, white space and every other byte."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

_SPACE = re.compile(r"(?:\s+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_SCALAR = re.compile(r"-?[0-9][0-9.eE+-]*|true|false|null")
_LINE_END = re.compile(r"[ \t]*(?://[^\n]*|/\*[^\n]*?\*/[ \t]*(?=\n))?")
_MAX_EDITS = 1000


@dataclass(slots=True)
class Node:
    """A value with its position in the text; an object also has the positions of its members."""

    start: int
    end: int
    value: Any
    members: dict[str, "Node"] = field(default_factory=dict)
    key_start: int = 0


def parse(text: str) -> Any:
    """Return the value of a document; None for an empty one.

    Raises:
        ValueError: it is not JSON with comments.
    """
    return None if _is_empty(text) else _tree(text).value


def patched(text: str, value: Any) -> str:
    """Return the document with the least edits that give it this value.

    Raises:
        ValueError: it is not JSON with comments, or cannot be edited safely.
    """
    if _is_empty(text):
        return f"{text}{json.dumps(value, indent=2, ensure_ascii=False)}\n"
    for _ in range(_MAX_EDITS):
        edits = _edits(text, _tree(text), value)
        if not edits:
            return text
        for start, end, replacement in sorted(edits, reverse=True):
            text = text[:start] + replacement + text[end:]
    raise ValueError("the text cannot be edited")


_Edit = tuple[int, int, str]


def _edits(text: str, node: Node, value: Any) -> list[_Edit]:
    """Return the edits of the first difference between the node and the value."""
    if _same(node.value, value):
        return []
    if not (isinstance(node.value, dict) and isinstance(value, dict)):
        return [(node.start, node.end, _dumped(text, value, _indent(text, node.start)))]
    for key, member in node.members.items():
        if key not in value:
            return _removal(text, node, key)
        if edits := _edits(text, member, value[key]):
            return edits
    key = next(key for key in value if key not in node.members)
    return _insertion(text, node, key, value[key])


def _insertion(text: str, node: Node, key: str, value: Any) -> list[_Edit]:
    outer = _indent(text, node.start)
    if not node.members:
        inner = text[node.start + 1 : node.end - 1].rstrip()
        indent = outer + _unit(text)
        member = f"{json.dumps(key)}: {_dumped(text, value, indent)}"
        return [(node.start + 1, node.end - 1, f"{inner}\n{indent}{member}\n{outer}")]
    last = list(node.members.values())[-1]
    after = _skip(text, last.end)
    has_comma = text[after] == ","
    position = after + 1 if has_comma else last.end
    line_end = _LINE_END.match(text, position)
    assert line_end is not None
    before = text[text.rfind("\n", 0, last.key_start) + 1 : last.key_start]
    own_line = not before.strip()
    separator = f"\n{before}" if own_line else " "
    member = f"{separator}{json.dumps(key)}: {_dumped(text, value, before if own_line else outer)}"
    end = line_end.end() if own_line else position
    if has_comma:
        return [(end, end, f"{member}," if own_line else member)]
    return [(position, position, f",{member}")] if end == position else [(position, position, ","), (end, end, member)]


def _removal(text: str, node: Node, key: str) -> list[_Edit]:
    member = node.members[key]
    start, end = member.key_start, member.end
    edits: list[_Edit] = []
    after = _skip(text, end)
    if text[after] == ",":
        if after == end:
            end += 1
        else:
            edits.append((after, after + 1, ""))
    else:
        previous = [each for each in node.members.values() if each.end < start]
        if previous:
            comma = _skip(text, previous[-1].end)
            edits.append((comma, comma + 1, ""))
    while text[start - 1] in " \t":
        start -= 1
    if text[start - 1] == "\n" and re.match(r"[ \t]*\n", text[end:]):
        start -= 1
    if any(start < place[1] and place[0] < end for place in edits):
        return [(min(start, *(place[0] for place in edits)), end, "")]
    return [*edits, (start, end, "")]


def _dumped(text: str, value: Any, indent: str) -> str:
    dumped = json.dumps(value, indent=_unit(text), ensure_ascii=False)
    return dumped.replace("\n", f"\n{indent}")


def _unit(text: str) -> str:
    """Return one level of the document's indentation."""
    first = re.search(r'[{\[]\s*?\n([ \t]+)"', text)
    return first[1] if first else "  "


def _indent(text: str, position: int) -> str:
    """Return the indentation of the line at a position."""
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _is_empty(text: str) -> bool:
    return _skip(text, 0) == len(text)


def _skip(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return space.end() if space else position


def _tree(text: str) -> Node:
    try:
        node = _value(text, _skip(text, 0))
        if _skip(text, node.end) != len(text):
            raise ValueError("there is text after the value")
    except (IndexError, RecursionError):
        raise ValueError("the text ends early") from None
    return node


def _value(text: str, start: int) -> Node:
    if text[start] == "{":
        return _object(text, start)
    if text[start] == "[":
        return _array(text, start)
    match = _STRING.match(text, start) or _SCALAR.match(text, start)
    if not match:
        raise ValueError(f"there is no value at character {start}")
    return Node(start, match.end(), json.loads(match[0]))


def _object(text: str, start: int) -> Node:
    node, position = Node(start, start, {}), _skip(text, start + 1)
    while text[position] != "}":
        name = _STRING.match(text, position)
        if not name:
            raise ValueError(f"there is no key at character {position}")
        colon = _skip(text, name.end())
        if text[colon] != ":":
            raise ValueError(f"a colon is missing at character {colon}")
        key, member = json.loads(name[0]), _value(text, _skip(text, colon + 1))
        if key in node.members:
            raise ValueError(f"the key {key!r} is there twice")
        member.key_start = position
        node.members[key], node.value[key] = member, member.value
        position = _next(text, member.end, "}")
    node.end = position + 1
    return node


def _array(text: str, start: int) -> Node:
    node, position = Node(start, start, []), _skip(text, start + 1)
    while text[position] != "]":
        item = _value(text, position)
        node.value.append(item.value)
        position = _next(text, item.end, "]")
    node.end = position + 1
    return node


def _next(text: str, end: int, closing: str) -> int:
    """Return the position of the next member, or of the closing bracket; a comma may stand before it."""
    position = _skip(text, end)
    if text[position] == ",":
        return _skip(text, position + 1)
    if text[position] != closing:
        raise ValueError(f"a comma is missing at character {position}")
    return position
