"""Makes the mutants of a module: its source with another operator, constant, condition or statement in one place."""

import ast
import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.Break: ast.Continue, ast.Continue: ast.Break,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
SKIPPED = {"annotation", "returns", "decorator_list"}  # no test can see a type, and nothing is decided there
PROSE = re.compile(r"[A-Za-z]{2,}[,;:]? [a-z(]")  # messages for people


@dataclass(frozen=True)
class Mutant:
    """A change of one module.

    Attributes:
        line: the line where it begins.
        start: the first byte that is replaced.
        end: the byte after the last one.
        old: the code, on one line.
        new: its replacement, likewise.
        context: the first line that it changes, after the line before.
    """

    line: int
    start: int
    end: int
    old: str
    new: str
    context: str

    def applied(self, source: bytes) -> bytes:
        """Return the module's source with the change."""
        return source[: self.start] + self.new.encode() + source[self.end :]

    def __str__(self) -> str:
        return f"{self.old}  ->  {self.new}"


def mutants(source: bytes) -> list[Mutant]:
    """Return all mutants of a module, in the order of its lines."""
    offsets, lines = [0], source.splitlines(keepends=True)
    for line in lines:
        offsets.append(offsets[-1] + len(line))
    found = set()
    for place, changed in _changes(ast.parse(source)):
        assert place.end_lineno is not None
        assert place.end_col_offset is not None
        start = offsets[place.lineno - 1] + place.col_offset
        end = offsets[place.end_lineno - 1] + place.end_col_offset
        new = ast.unparse(changed)
        if isinstance(changed, ast.expr) and not isinstance(changed, ast.Constant):
            new = f"({new})"  # whatever stands around it
        context = b"".join(lines[max(0, place.lineno - 2) : place.lineno]).decode()
        found.add(Mutant(place.lineno, start, end, ast.unparse(place), new, context))
    return sorted(found, key=lambda each: (each.start, each.end, each.new))


Change = tuple[ast.expr | ast.stmt, ast.AST]
"""An expression or statement, and what may stand in its place."""


def _changes(node: ast.AST) -> Iterator[Change]:
    """Yield the changes below a node, but none of a type, docstring, log message or f-string."""
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        return
    if isinstance(node, ast.Expr) and ast.unparse(node).startswith("_log."):
        return
    if isinstance(node, ast.expr):
        yield from ((node, changed) for changed in _expressions(node))
    if isinstance(node, ast.stmt):
        yield from ((node, changed) for changed in _statements(node))
    if isinstance(node, ast.If | ast.IfExp | ast.While) and isinstance(node.test, ast.Name | ast.Attribute | ast.Call):
        yield node.test, ast.UnaryOp(ast.Not(), node.test)
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if name not in SKIPPED and isinstance(child, ast.AST):
                yield from _changes(child)


def _expressions(node: ast.expr) -> Iterator[ast.AST]:
    match node:
        case ast.Compare():
            for number, operator in enumerate(node.ops):
                yield _with(node, ops=[*node.ops[:number], SWAPS[type(operator)](), *node.ops[number + 1 :]])
        case ast.BoolOp() | ast.BinOp() if type(node.op) in SWAPS:
            yield _with(node, op=SWAPS[type(node.op)]())
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Constant():
            yield from _constants(node.value)
        case ast.Call():
            if isinstance(node.func, ast.Name) and node.func.id in NAMES:
                yield _with(node, func=ast.Name(NAMES[node.func.id]))
            for number, keyword in enumerate(node.keywords):
                if keyword.arg:
                    yield _with(node, keywords=node.keywords[:number] + node.keywords[number + 1 :])


def _statements(node: ast.stmt) -> Iterator[ast.AST]:
    match node:
        case ast.AugAssign():
            yield _with(node, op=SWAPS[type(node.op)]())
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.Raise() | ast.Expr():
            yield ast.Pass()
        case ast.Break() | ast.Continue():
            yield SWAPS[type(node)]()


def _constants(value: object) -> Iterator[ast.Constant]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float):
        yield ast.Constant(value + 1)
    elif isinstance(value, str | bytes):
        text = value if isinstance(value, str) else value.decode("latin-1")
        if not PROSE.search(text):
            changed = "" if text else "x"
            yield ast.Constant(changed if isinstance(value, str) else changed.encode())


def _with(node: ast.AST, **changes: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed
