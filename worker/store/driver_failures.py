"""Translates the driver's exceptions into the project's errors, in this one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bson.errors import BSONError
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    DocumentTooLarge,
    OperationFailure,
    PyMongoError,
)

from worker.errors import Conflict, Refused, StoreUnusable, WorkerError

# Codes from MongoDB's src/mongo/base/error_codes.yml.
WRITE_CONFLICT: Final = 112
DUPLICATE_KEY: Final = 11000
VALIDATION_FAILURE: Final = 121
NAMESPACE_EXISTS: Final = 48
UNAUTHORIZED: Final = 13

_LOST_RACES: Final = frozenset({WRITE_CONFLICT, DUPLICATE_KEY})
_REFUSALS: Final = frozenset(
    {
        2,  # BadValue
        14,  # TypeMismatch: $inc on something that is not a number
        28,  # PathNotViable
        VALIDATION_FAILURE,
        10334,  # BSONObjectTooLarge
        17280,  # KeyTooLong
    }
)
"""Errors that the content of a batch can cause; any other is due to the server's state."""


@contextmanager
def translated_failures() -> Iterator[None]:
    """Raise Conflict, Refused or StoreUnusable in place of any exception of the driver."""
    try:
        yield
    except (PyMongoError, BSONError, OverflowError) as failure:
        raise _translated(failure) from failure


def _translated(failure: Exception) -> WorkerError:
    if isinstance(failure, BulkWriteError):
        errors = (failure.details or {}).get("writeErrors") or [{}]
        return _by_code(errors[0].get("code"), str(errors[0].get("errmsg", failure)))
    if isinstance(failure, OperationFailure):
        if failure.has_error_label("TransientTransactionError"):
            return Conflict(_first_line(failure))
        return _by_code(failure.code, _first_line(failure))
    if isinstance(failure, (BSONError, DocumentTooLarge, OverflowError)):
        return Refused(_first_line(failure))
    if isinstance(failure, ConfigurationError):
        return StoreUnusable(f"MongoDB cannot be used as RESERVATION_MONGODB_URI says: {failure}")
    return StoreUnusable(f"MongoDB cannot be reached: {_first_line(failure)}")


def _by_code(code: int | None, message: str) -> WorkerError:
    if code in _LOST_RACES:
        return Conflict(message)
    if code in _REFUSALS:
        return Refused(message)
    return StoreUnusable(f"MongoDB refuses with error {code}: {message}")


def _first_line(failure: Exception) -> str:
    """The message without the state of the whole cluster, which the driver appends to it."""
    return str(failure).partition(", full error:")[0].partition(", Timeout:")[0].strip()[:500]
