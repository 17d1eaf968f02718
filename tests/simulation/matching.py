"""MongoDB's filters and updates, as far as the worker uses them.

Evaluates what is sent to the server, operator by operator, as the manual says: so a filter that
lacks a condition matches here what it would match there. An operator that is not known here raises
an error, and is never a match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from pymongo import UpdateOne
from pymongo.errors import OperationFailure

Document = dict[str, Any]

TYPE_MISMATCH: Final = 14

MISSING: Final = object()


def matches(document: Document, condition: Mapping[str, Any]) -> bool:
    """Whether a filter matches this document."""
    for name, wanted in condition.items():
        if name == "$and":
            if not all(matches(document, part) for part in wanted):
                return False
        elif not _holds(list(_values(document, name.split("."))), wanted):
            return False
    return True


def updated(document: Document, update: UpdateOne) -> Document:
    """The document after the update; raises OperationFailure if its types do not allow it."""
    changes = update._doc
    if not isinstance(changes, Mapping) or changes.keys() != {"$inc"}:
        raise NotImplementedError(changes)
    filters: dict[str, Any] = {}
    for array_filter in update._array_filters or ():
        ((name, wanted),) = array_filter.items()
        identifier, _, field = name.partition(".")
        filters[identifier] = (field, wanted)
    for path, amount in changes["$inc"].items():
        document = _incremented(document, path.split("."), amount, filters)
    return document


def finds(document: Document, update: UpdateOne) -> bool:
    """Whether the update's filter matches this document."""
    return matches(document, update._filter)


def _values(value: object, path: Sequence[str]) -> Iterator[object]:
    """The values at the path: through an array, those in each of its elements."""
    if not path:
        yield value
    elif isinstance(value, dict):
        yield from _values(value.get(path[0], MISSING), path[1:])
    elif isinstance(value, list):
        for element in value:
            if isinstance(element, dict):
                yield from _values(element, path)
    else:
        yield MISSING


def _holds(values: Sequence[object], wanted: object) -> bool:
    if isinstance(wanted, dict) and any(name.startswith("$") for name in wanted):
        return all(_OPERATORS[name](values, operand) for name, operand in wanted.items())
    return any(_is(value, wanted) for value in _with_elements(values))


def _with_elements(values: Sequence[object]) -> Iterator[object]:
    """A condition on an array holds if it holds for the array or for one of its elements."""
    for value in values:
        yield value
        if isinstance(value, list):
            yield from value


def _is(value: object, wanted: object) -> bool:
    """3 equals 3.0, but true does not equal 1; a missing field equals null."""
    if wanted is None:
        return value is None or value is MISSING
    return isinstance(value, bool) == isinstance(wanted, bool) and value == wanted


def _elem_match(values: Sequence[object], condition: Any) -> bool:  # noqa: ANN401
    arrays = [value for value in values if isinstance(value, list)]
    return any(
        isinstance(element, dict) and matches(element, condition)
        for array in arrays
        for element in array
    )


_OPERATORS: Final[Mapping[str, Callable[[Sequence[object], Any], bool]]] = {
    "$elemMatch": _elem_match,
    "$in": lambda values, wanted: any(_holds(values, one) for one in wanted),
    "$nin": lambda values, wanted: not any(_holds(values, one) for one in wanted),
    "$all": lambda values, wanted: all(_holds(values, one) for one in wanted),
    "$ne": lambda values, wanted: not _holds(values, wanted),
    "$exists": lambda values, wanted: wanted == any(v is not MISSING for v in values),
}


def _incremented(
    document: Document, path: Sequence[str], amount: int, filters: Mapping[str, Any]
) -> Document:
    name, *rest = path
    if not rest:
        held = document.get(name, 0)
        if isinstance(held, bool) or not isinstance(held, int | float):
            raise OperationFailure(f"Cannot apply $inc to a value of {name}", TYPE_MISMATCH)
        return {**document, name: held + amount}
    held = document[name]
    if rest[0].startswith("$["):
        field, wanted = filters[rest[0][2:-1]]
        return {
            **document,
            name: [
                _incremented(element, rest[1:], amount, filters)
                if _holds([element.get(field, MISSING)], wanted)
                else element
                for element in held
            ],
        }
    return {**document, name: _incremented(held, rest, amount, filters)}
