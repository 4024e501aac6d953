"""Single settings inside a document: put in, and taken out again when they are still ours."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Setting:
    """A value that a tool's settings get.

    Attributes:
        path: the keys that lead to it; () is the document itself.
        value: the value.
        is_item: whether it is added to the list at `path`.
        is_default: whether an existing value stays.
        is_required: whether the tool refuses a file without it: a default that stays as long as anything else does.
        volatile: keys of a table that the tool itself changes.
    """

    path: tuple[str, ...]
    value: Any = field(repr=False)
    is_item: bool = False
    is_default: bool = False
    is_required: bool = False
    volatile: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """A setting that was put in.

    Attributes:
        setting: the setting.
        depth: how many keys of the path existed before.
        previous: the value before, in a list of one; an empty list when there was none.
    """

    setting: Setting
    depth: int
    previous: list[Any] = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return it for the record."""
        return {
            "path": list(self.setting.path),
            "value": self.setting.value,
            "is_item": self.setting.is_item,
            "is_required": self.setting.is_required,
            "volatile": list(self.setting.volatile),
            "depth": self.depth,
            "previous": self.previous,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Applied":
        """Read it from the record."""
        setting = Setting(
            tuple(content["path"]),
            content["value"],
            bool(content["is_item"]),
            is_required=bool(content["is_required"]),
            volatile=tuple(content["volatile"]),
        )
        return cls(setting, int(content["depth"]), list(content["previous"]))


def apply(document: Any, settings: Iterable[Setting]) -> tuple[Any, list[Applied]]:
    """Put settings into a document; return it, and what undo needs.

    Raises:
        ValueError: the document has another structure.
    """
    applied = []
    for setting in settings:
        if document is None:
            document = [] if setting.is_item and not setting.path else {}
        if entry := _put(document, setting):
            applied.append(entry)
    return document, applied


def _put(document: Any, setting: Setting) -> Applied | None:
    parent, depth = document, 0
    keys = setting.path if setting.is_item else setting.path[:-1]
    for index, key in enumerate(keys):
        if not isinstance(parent, dict):
            raise ValueError(f"{'.'.join(keys[:index]) or 'the file'} is not a table")
        if key not in parent:
            if setting.is_item and index == len(keys) - 1:
                parent[key] = [setting.value]  # not an empty list first: TOML would make it an inline array
                return Applied(setting, depth, [])
            parent[key] = {}
        else:
            depth += 1
        parent = parent[key]
    if setting.is_item:
        if not isinstance(parent, list):
            raise ValueError(f"{'.'.join(keys) or 'the file'} is not a list")
        parent.append(setting.value)
        return Applied(setting, depth, [])
    if not isinstance(parent, dict):
        raise ValueError(f"{'.'.join(keys) or 'the file'} is not a table")
    last = setting.path[-1]
    if last in parent and (setting.is_default or setting.is_required):
        return None
    previous = [plain(parent[last])] if last in parent else []
    parent[last] = setting.value
    return Applied(setting, depth, previous)


def withdraw(document: Any, applied: Iterable[Applied], *, is_own_file: bool = False) -> list[str]:
    """Remove our unchanged settings from a document; return the names of those that were changed since.

    Args:
        document: the document, which is changed.
        applied: what was put in.
        is_own_file: whether vx-token created the file, so that required settings stay with what others have added.
    """
    entries = list(applied)
    required = [entry for entry in entries if entry.setting.is_required]
    kept = [name for entry in reversed(entries) if entry not in required for name in _take(document, entry)]
    ours = {entry.setting.path[0]: entry.setting.value for entry in required}
    others = isinstance(document, list) or any(key not in ours or document[key] != ours[key] for key in document)
    if not (is_own_file and others):
        kept += [name for entry in reversed(required) for name in _take(document, entry)]
    return kept


def is_present(document: Any, entry: Applied) -> bool:
    """Return whether a document still has a setting of ours."""
    setting, holder = entry.setting, document
    for key in setting.path:
        if not isinstance(holder, dict) or key not in holder:
            return False
        holder = holder[key]
    value = _without_volatile(setting)
    if setting.is_item:
        return isinstance(holder, list) and any(_contains(item, value) for item in holder)
    return _contains(holder, value)


def _without_volatile(setting: Setting) -> Any:
    if not setting.volatile:
        return setting.value
    return {key: each for key, each in setting.value.items() if key not in setting.volatile}


def _take(document: Any, entry: Applied) -> Iterator[str]:
    path, value = entry.setting.path, _without_volatile(entry.setting)
    holders = [document]
    for key in path if entry.setting.is_item else path[:-1]:
        if not isinstance(holders[-1], dict) or key not in holders[-1]:
            return
        holders.append(holders[-1][key])
    holder = holders[-1]
    if entry.setting.is_item:
        found = [index for index, item in enumerate(holder) if _contains(item, value)]
        if found:
            del holder[found[0]]
        else:
            yield ".".join(path) or "the list"
    else:
        if not isinstance(holder, dict) or path[-1] not in holder:
            return
        if not _contains(holder[path[-1]], value):
            yield ".".join(path)
            return
        if entry.previous:
            holder[path[-1]] = entry.previous[0]
        else:
            del holder[path[-1]]
    _remove_empty(holders, path, entry.depth)


def _remove_empty(holders: list[Any], path: tuple[str, ...], depth: int) -> None:
    """Remove the empty tables and lists that `apply` created."""
    for index in range(len(holders) - 1, depth, -1):
        if holders[index]:
            return
        del holders[index - 1][path[index - 1]]


def _contains(value: Any, ours: Any) -> bool:
    """Whether a value still contains ours; a table may have additional keys."""
    if isinstance(value, dict) and isinstance(ours, dict) and ours:
        return all(key in value and _contains(value[key], each) for key, each in ours.items())
    return bool(value == ours)


def plain(value: Any) -> Any:
    """Return a value of a library's own kinds as plain JSON.

    Raises:
        ValueError: JSON has no such value.
    """
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        raise ValueError("it contains a value that JSON does not have") from None


SECRET_NAMES = ("key", "token", "secret", "password", "authorization")


def secrets(value: Any, *, is_secret: bool = False) -> Iterator[str]:
    """Yield the strings of a document that must not be shown: those below a name such as `api_key`."""
    if isinstance(value, dict):
        for key, each in value.items():
            name = str(key).lower().replace("vx-token", "")  # api_key_name names a key, and is none
            hidden = is_secret or (any(each in name for each in SECRET_NAMES) and not name.endswith("name"))
            yield from secrets(each, is_secret=hidden)
    elif isinstance(value, list):
        for each in value:
            yield from secrets(each, is_secret=is_secret)
    elif is_secret and isinstance(value, str) and value:
        yield str(value)
