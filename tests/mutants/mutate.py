"""Small errors that somebody might make, one at a time, in the text of a module.

What no test is asked to notice stays as it is: docstrings and messages, annotations, decorators, defaults of parameters,
what is raised, and compiled kernels.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import NamedTuple


class Mutant(NamedTuple):
    """``text`` in the place of the bytes ``start`` to ``end`` of the source; ``what`` says so on one line."""

    line: int
    start: int
    end: int
    text: str
    what: str

    def apply(self, source: str) -> str:
        """The module with this error."""
        content = source.encode()
        return (content[: self.start] + self.text.encode() + content[self.end :]).decode()


OPERATORS = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult},
    **{ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.And: ast.Or, ast.Or: ast.And},
    **{ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd},
}
COMPARISONS = {
    **{ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt)},
    **{ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,)},
    **{ast.In: (ast.NotIn,), ast.NotIn: (ast.In,)},
}
PAIRS = (("mean", "sum"), ("min", "max"), ("amin", "amax"), ("argmin", "argmax"), ("any", "all"))
NAMES = {one: other for pair in PAIRS for one, other in (pair, pair[::-1])}
DROPPED = {"abs", "detach", "eval", "exp", "log", "neg", "sqrt", "square"}  # methods that do something to their object
ASIDE = {"print", "warn", "log_dict", "log"}  # functions whose calls are not looked into
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def mutants(source: str) -> list[Mutant]:
    """All mutants of a module's source, in the order of its lines."""
    offsets = [0]
    for line in source.encode().splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    found = []
    for node in _nodes(ast.parse(source)):
        start, end = (
            offsets[line - 1] + column
            for line, column in ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
        )
        old = source.encode()[start:end].decode()
        for new in _changed(node):
            text = f"({new})" if isinstance(node, ast.expr) else new
            what = f"{' '.join(old.split())} -> {new}"
            found.append(Mutant(node.lineno, start, end, text, what))
    return sorted(dict.fromkeys(found))


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Expressions and statements that may be mutated, outer ones first."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert):
        return
    if isinstance(node, FUNCTIONS) and any("compiled" in ast.unparse(each) for each in node.decorator_list):
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Call) and _name(node.func) in ASIDE:
        return
    if isinstance(node, ast.expr | ast.Expr | ast.AugAssign):
        yield node
    aside = ("annotation", "returns", "decorator_list", "bases", "defaults", "kw_defaults")
    for field, value in ast.iter_fields(node):
        if field not in aside:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _nodes(child)


def _changed(node: ast.AST) -> Iterator[str]:
    """What may stand in the place of a node."""
    if isinstance(node, ast.Expr | ast.AugAssign):
        if not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call):
            yield "pass"
    elif isinstance(node, ast.BinOp | ast.BoolOp):
        if type(node.op) in OPERATORS:
            yield _with(node, op=OPERATORS[type(node.op)]())
    elif isinstance(node, ast.Compare):
        for other in COMPARISONS[type(node.ops[0])]:
            yield _with(node, ops=[other(), *node.ops[1:]])
    elif isinstance(node, ast.UnaryOp):
        yield ast.unparse(node.operand)
    elif isinstance(node, ast.IfExp):
        yield ast.unparse(node.body)
        yield ast.unparse(node.orelse)
    elif isinstance(node, ast.Constant):
        yield from _constants(node.value)
    elif isinstance(node, ast.Call):
        yield from _calls(node)


def _constants(value: object) -> Iterator[str]:
    if isinstance(value, bool):
        yield str(not value)
    elif isinstance(value, int | float):
        yield repr(value + 1)
        if value:
            yield repr(value - 1)


def _calls(node: ast.Call) -> Iterator[str]:
    name = _name(node.func)
    if name in NAMES:
        yield _with(node, func=_renamed(node.func, NAMES[name]))
    if isinstance(node.func, ast.Attribute) and name in DROPPED and not node.args:
        yield ast.unparse(node.func.value)
    plain = [each for each in node.args if not isinstance(each, ast.Starred)]
    if len(plain) == len(node.args) > 1 and ast.dump(plain[0]) != ast.dump(plain[1]) and name != "isinstance":
        yield _with(node, args=[plain[1], plain[0], *plain[2:]])
    for keyword in node.keywords:
        if keyword.arg is not None:
            yield _with(node, keywords=[each for each in node.keywords if each is not keyword])


def _with(node: ast.AST, **changes: object) -> str:
    other = copy.copy(node)
    for field, value in changes.items():
        setattr(other, field, value)
    return ast.unparse(other)


def _name(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))


def _renamed(function: ast.expr, name: str) -> ast.expr:
    other = copy.copy(function)
    setattr(other, "attr" if isinstance(other, ast.Attribute) else "id", name)
    return other
