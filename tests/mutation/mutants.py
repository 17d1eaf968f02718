"""What can be changed in a file: each mutant differs from it in one place.

Most changes are made by the operators of mutmut (https://github.com/boxed/mutmut), which turn one
node of a syntax tree into others. Its own runner changes only the bodies of functions that have no
decorator; here the operators reach properties, fields and constants as well, as most of the
contracts is made of these. Statements that are removed, conditions that always or never hold,
the text of f-strings, and numbers that are one less come in addition.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

from tests.mutation.plan import Change

cst: Final = importlib.import_module("libcst")
mutmut: Final = importlib.import_module("mutmut.mutation.mutators")

Node = Any
"""A node of libcst, which is not installed where the types are checked."""

ALL_OR_NOTHING: Final = frozenset({"isinstance", "len", "zip"})
"""Functions that fail at once when they are given less, or None."""
OUTSIDE: Final = "(module)"
"""Where a change is that is in no class and no function."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change, and the whole file with it."""

    change: Change
    source: str


def mutants_of(file: str, source: str) -> list[Mutant]:
    """Each mutant of a file once, in the order of the file."""
    module = cst.parse_module(source)
    found: dict[str, Mutant] = {}
    for node, scope in _nodes(module, ()):
        for replacement in _replacements(node):
            mutated: str = module.deep_replace(node, replacement).code
            if mutated != source and _compiles(mutated):
                change = _change(file, ".".join(scope) or OUTSIDE, source, mutated)
                found.setdefault(mutated, Mutant(change, mutated))
    return list(found.values())


def _nodes(node: Node, scope: Sequence[str]) -> Iterator[tuple[Node, Sequence[str]]]:
    """The nodes that may be changed, each with the names of the classes and functions round it."""
    if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
        scope = (*scope, node.name.value)
    for child in node.children:
        if not _is_left_alone(child, node):
            yield child, scope
            yield from _nodes(child, scope)


def _is_left_alone(node: Node, parent: Node) -> bool:
    """Whether no test could notice a change of this node, or none should.

    Annotations are for mypy, decorators and imports fail at once, ``strict`` asserts what always
    holds, and what is written for people may be reworded: docstrings, log lines, errors.
    """
    match node:
        case cst.Annotation() | cst.Decorator() | cst.Import() | cst.ImportFrom():
            return True
        case cst.Expr(value=cst.SimpleString()):
            return True
        case cst.Call(func=function):
            return _is_log(function) or _is_value_with_text(function, node.args)
        case cst.Arg(keyword=cst.Name(value="strict")):
            return _is_call_of(parent, {"zip"})
    return False


def _is_log(function: Node) -> bool:
    name: str = cst.Module([]).code_for_node(function)
    return name == "_log" or name.startswith("log.")


def _is_value_with_text(function: Node, arguments: Sequence[Node]) -> bool:
    """An error or an answer that holds nothing but what is wrong, such as ``Conflict("late")``."""
    text = (cst.SimpleString, cst.FormattedString, cst.ConcatenatedString)
    is_class = isinstance(function, cst.Name) and function.value[:1].isupper()
    return is_class and bool(arguments) and all(isinstance(a.value, text) for a in arguments)


def _replacements(node: Node) -> Iterator[Node]:
    for kind, operator in mutmut.mutation_operators:
        if isinstance(node, kind) and operator is not mutmut.operator_string:
            if operator is mutmut.operator_arg_removal and _is_call_of(node, ALL_OR_NOTHING):
                continue
            yield from operator(node)
    match node:
        case cst.SimpleString():
            is_pattern = "r" in node.prefix
            yield from list(mutmut.operator_string(node))[: None if is_pattern else 1]
        case cst.FormattedStringText():
            yield node.with_changes(value=f"XX{node.value}")
        case cst.Integer(evaluated_value=value) if value > 0:
            yield node.with_changes(value=repr(value - 1))
        case cst.If() | cst.CompIf():
            yield from (node.with_changes(test=cst.Name(value)) for value in ("True", "False"))
        case cst.MatchCase(guard=guard) if guard is not None:
            yield from (node.with_changes(guard=cst.Name(value)) for value in ("True", "False"))
        case cst.SimpleStatementLine(body=[statement]) if _can_be_removed(statement):
            yield node.with_changes(body=[cst.Pass()])


def _is_call_of(node: Node, functions: Collection[str]) -> bool:
    match node:
        case cst.Call(func=cst.Name(value=name)):
            return name in functions
    return False


def _can_be_removed(statement: Node) -> bool:
    """Whether the rest may still run without it; to remove a name's definition is only an error."""
    match statement:
        case cst.Expr(value=cst.Call() | cst.Await() | cst.Yield()):
            return True
        case cst.AugAssign() | cst.Raise() | cst.Del():
            return True
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Attribute() | cst.Subscript()), *_]):
            return True
    return False


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def _change(file: str, function: str, source: str, mutated: str) -> Change:
    old, new = source.splitlines(), mutated.splitlines()
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    before, after = (
        " ".join(line.strip() for line in lines[start : len(lines) - end]) for lines in (old, new)
    )
    return Change(file, function, before, after)


def _common(these: Sequence[str], those: Sequence[str]) -> int:
    """How many lines both start with."""
    pairs = zip(these, those, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
