"""Settings files as documents: TOML, YAML and JSON are read and written so that comments, order and style stay."""

import io
from collections.abc import Callable, Iterator
from typing import Any

from vx_token.tools import jsonc

BOM = "\ufeff"


class NotEditableError(ValueError):
    """The file cannot be edited without damage to its other content; the message contains the reason."""


def changed(content: bytes | None, form: str, change: Callable[[Any], Any]) -> bytes:
    """Return the file with its document changed; everything else in it stays.

    Args:
        content: the file, None for a new one.
        form: `json` (with comments), `toml`, `yaml` or `dotenv`.
        change: receives the document (None for an empty one), changes it in place or creates one, and returns it.

    Raises:
        NotEditableError: the file cannot be edited safely.
    """
    text, newline, bom = _decoded(content or b"")
    try:
        after = {"json": _json, "toml": _toml, "yaml": _yaml, "dotenv": _dotenv}[form](text, change)
    except NotEditableError:
        raise
    except Exception as error:
        raise NotEditableError(f"it is not {form.upper()} that vx-token can edit") from error
    return (bom + after.replace("\n", newline)).encode()


def parsed(content: bytes | None, form: str) -> Any:
    """Return the document of a file, None for an empty one.

    Raises:
        NotEditableError: the file cannot be edited safely.
    """
    documents: list[Any] = []

    def read(document: Any) -> Any:
        documents.append(document)
        return document

    changed(content, form, read)
    return documents[0]


def _decoded(content: bytes) -> tuple[str, str, str]:
    """Return the text with line feeds only, its line end, and its byte order mark."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise NotEditableError("it is not UTF-8") from None
    bom = BOM if text.startswith(BOM) else ""
    text = text.removeprefix(BOM)
    if "\r\n" not in text:
        return text, "\n", bom
    unix = text.replace("\r\n", "\n")
    if unix.replace("\n", "\r\n") != text:
        raise NotEditableError("its line ends are mixed")
    return unix, "\r\n", bom


def _json(text: str, change: Callable[[Any], Any]) -> str:
    document = change(jsonc.parse(text))
    return text if document is None else jsonc.patched(text, document)


def _dotenv(text: str, change: Callable[[Any], Any]) -> str:
    """Change lines NAME=VALUE without quotes; all other lines stay."""
    lines = text.splitlines(keepends=True)
    names = [line.partition("=")[0] if "=" in line and not line.startswith("#") else "" for line in lines]
    before = {name: line.rstrip("\n").partition("=")[2] for name, line in zip(names, lines, strict=True) if name}
    after = change(dict(before) or None) or {}
    kept = [
        line if not name or before[name] == after.get(name) else f"{name}={after[name]}\n"
        for name, line in zip(names, lines, strict=True)
        if not name or name in after
    ]
    if kept and not kept[-1].endswith("\n") and after.keys() - before.keys():
        kept[-1] += "\n"
    return "".join([*kept, *(f"{name}={after[name]}\n" for name in after if name not in before)])


def _toml(text: str, change: Callable[[Any], Any]) -> str:
    import tomlkit

    document = tomlkit.parse(text)
    if tomlkit.dumps(document) != text:
        raise NotEditableError("its style of TOML would not be kept")
    wanted = change(document)
    result = tomlkit.dumps(wanted)
    return _verified(result, tomlkit.parse(result).unwrap(), wanted.unwrap())


def _yaml(text: str, change: Callable[[Any], Any]) -> str:
    if not _yaml_loaded(text):  # empty, or comments only
        document = change(None)
        return text + (_yaml_dumped(_yamls()[0], document) if document else "")
    for yaml in _yamls():
        document = yaml.load(text)
        if _yaml_dumped(yaml, document) == text:
            wanted = change(document)
            result = _yaml_dumped(yaml, wanted)
            return _verified(result, _yaml_loaded(result), wanted)
    raise NotEditableError("its style of YAML would not be kept")


def _verified(text: str, values: Any, wanted: Any) -> str:
    if values != wanted:
        raise NotEditableError("the edited file would have other values than intended")
    return text


def _yaml_loaded(text: str) -> Any:
    return _yamls()[0].load(text)


def _yamls() -> list[Any]:
    """Return round-trip processors for the usual styles of indentation."""
    from ruamel.yaml import YAML

    def styles() -> Iterator[Any]:
        for mapping, sequence, offset in ((2, 2, 0), (2, 4, 2), (4, 2, 0), (4, 4, 2), (4, 6, 4)):
            for explicit_start in (False, True):
                yaml = YAML(typ="rt")
                yaml.preserve_quotes = True
                yaml.width = 1 << 20
                yaml.explicit_start = explicit_start
                yaml.indent(mapping=mapping, sequence=sequence, offset=offset)
                yield yaml

    return list(styles())


def _yaml_dumped(yaml: Any, document: Any) -> str:
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()
