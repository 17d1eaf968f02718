"""Every exception of a driver is translated without loss, and every error explains itself."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pkgutil
import re
import ssl
from types import ModuleType
from typing import Any, Final, cast

import aio_pika.exceptions
import aiormq.exceptions
import bson.errors
import pamqp.exceptions
import pymongo.errors
import pytest
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

import worker
from worker import errors
from worker.broker import client_failures as broker
from worker.errors import BrokerUnusable, Conflict, Refused, SessionLost, StoreUnusable, WorkerError
from worker.store import driver_failures as store


def exceptions_of(*modules: ModuleType) -> list[type[Exception]]:
    """Every exception class that the modules define, in a stable order."""
    names = {module.__name__ for module in modules}
    found = {
        member
        for module in modules
        for member in vars(module).values()
        if inspect.isclass(member) and issubclass(member, Exception) and member.__module__ in names
    }
    return sorted(found, key=lambda cls: (cls.__module__, cls.__qualname__))


RETURN: Final = Basic.Return()
RETURNED: Final = DeliveredMessage(
    delivery=RETURN, header=ContentHeader(), body=b"", channel=cast(AbstractChannel, None)
)
ARGUMENTS: Final[dict[str, tuple[Any, ...]]] = {
    "BulkWriteError": ({"writeErrors": [{"code": 1, "errmsg": "went wrong"}]},),
    "ClientBulkWriteException": ({}, False),
    "EncryptionError": (RuntimeError("went wrong"),),
    "EncryptedCollectionError": (RuntimeError("went wrong"), {}),
    "DeliveryError": (None, Basic.Nack(1)),
    "PublishError": (RETURNED, RETURN),
    "UnmarshalingException": ("ContentHeader", ValueError("went wrong")),
}


def instance_of(cls: type[Exception]) -> Exception:
    """An exception of the class, made as the library itself makes it."""
    return cls(*ARGUMENTS.get(cls.__name__, ("went wrong",)))


def raised_by_store(failure: Exception) -> WorkerError:
    with pytest.raises(WorkerError) as raised, store.translated_failures():
        raise failure
    assert raised.value.__cause__ is failure
    return raised.value


def raised_by_broker(
    failure: Exception, error: type[BrokerUnusable] = SessionLost
) -> BrokerUnusable:
    with pytest.raises(BrokerUnusable) as raised, broker.translated_failures("doing it", error):
        raise failure
    assert raised.value.__cause__ is failure
    return raised.value


STORE: Final = exceptions_of(pymongo.errors, bson.errors)
BROKER: Final = exceptions_of(aiormq.exceptions, aio_pika.exceptions, pamqp.exceptions)


@pytest.mark.parametrize("cls", STORE, ids=lambda cls: cls.__name__)
def test_every_exception_of_the_mongodb_driver_is_translated(cls: type[Exception]) -> None:
    assert isinstance(raised_by_store(instance_of(cls)), Conflict | Refused | StoreUnusable)


@pytest.mark.parametrize("cls", BROKER, ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_every_exception_of_the_rabbitmq_client_is_translated(cls: type[Exception]) -> None:
    failure = instance_of(cls)
    assert type(raised_by_broker(failure)) is SessionLost
    assert type(raised_by_broker(failure, BrokerUnusable)) is BrokerUnusable


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionResetError("reset"),
        OSError("no route"),
        ssl.SSLError("bad certificate"),
        TimeoutError(),
        RuntimeError("the channel is closed"),
        StopAsyncIteration(),
    ],
)
def test_exceptions_of_the_sockets_are_translated(failure: Exception) -> None:
    assert "doing it" in str(raised_by_broker(failure))


@pytest.mark.parametrize(
    ("code", "expected"),
    [(112, Conflict), (11000, Conflict)]
    + [(code, Refused) for code in (2, 14, 28, 121, 10334, 17280)]
    + [(code, StoreUnusable) for code in (None, 1, 13, 18, 50, 91, 189, 251, 263)],
)
def test_the_code_of_a_failure_decides_what_it_becomes(
    code: int | None, expected: type[WorkerError]
) -> None:
    assert type(raised_by_store(pymongo.errors.OperationFailure("no", code))) is expected
    bulk = pymongo.errors.BulkWriteError({"writeErrors": [{"code": code, "errmsg": "no"}]})
    assert type(raised_by_store(bulk)) is expected


def test_a_transient_transaction_error_is_always_a_conflict() -> None:
    details = {"errorLabels": ["TransientTransactionError"]}
    failure = pymongo.errors.OperationFailure("no", 251, details)
    assert type(raised_by_store(failure)) is Conflict


@pytest.mark.parametrize(
    "failure",
    [
        OverflowError("MongoDB can only handle up to 8-byte ints"),
        pymongo.errors.DocumentTooLarge("16 MB"),
        bson.errors.InvalidDocument("cannot encode"),
        bson.errors.InvalidStringData("not UTF-8"),
    ],
)
def test_what_bson_cannot_hold_is_refused_and_is_no_outage(failure: Exception) -> None:
    assert type(raised_by_store(failure)) is Refused


def test_an_outage_is_one_line_without_the_state_of_the_cluster() -> None:
    text = "127.0.0.1:1: refused, Timeout: 5s, Topology Description: <...>, full error: {...}"
    error = str(raised_by_store(pymongo.errors.ServerSelectionTimeoutError(text)))
    assert error == "MongoDB cannot be reached: 127.0.0.1:1: refused"


def test_a_bad_uri_is_reported_with_the_name_of_its_variable() -> None:
    error = raised_by_store(pymongo.errors.InvalidURI("bad escape"))
    assert "RESERVATION_MONGODB_URI" in str(error)


@pytest.mark.parametrize(
    "failure", [ValueError("ours"), KeyError("ours"), asyncio.CancelledError()]
)
def test_an_error_of_our_own_is_not_translated(failure: BaseException) -> None:
    with pytest.raises(type(failure)), store.translated_failures():
        raise failure
    with pytest.raises(type(failure)), broker.translated_failures("doing it"):
        raise failure


def test_a_failure_without_a_message_is_explained_by_its_name() -> None:
    assert "TimeoutError" in broker.explain(TimeoutError())
    assert "320" in broker.explain(aiormq.exceptions.ConnectionClosed(320, "CONNECTION_FORCED"))
    assert broker.explain(None)


def errors_below(cls: type[WorkerError]) -> set[type[WorkerError]]:
    """The class and all that derive from it in the worker, whatever module they are in."""
    derived = [errors_below(one) for one in cls.__subclasses__()]
    return {one for one in {cls}.union(*derived) if one.__module__.startswith("worker.")}


for module in pkgutil.walk_packages(worker.__path__, "worker."):
    importlib.import_module(module.name)
OURS: Final = sorted(errors_below(WorkerError), key=lambda cls: cls.__name__)


def drawn_errors() -> dict[str, str]:
    """The name of each error class that the tree in ``worker/errors.py`` draws, and its parent."""
    parents: dict[str, str] = {}
    branch: list[str] = []
    for indent, name in re.findall(
        r"^    ([│├└─ ]*)([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE
    ):
        branch[len(indent) // 4 :] = [name]
        parents[name] = branch[-2] if indent else "Exception"
    return parents


@pytest.mark.parametrize("cls", OURS, ids=lambda cls: cls.__name__)
def test_every_error_explains_itself_and_has_an_exit_code(cls: type[WorkerError]) -> None:
    assert cls.__doc__
    assert str(cls()) == cls.__doc__.strip()
    assert str(cls("in particular")) == "in particular"
    assert cls.exit_code in {1, 2, 3, 4, 5, 6}


def test_every_error_of_ours_stands_in_the_tree_of_errors() -> None:
    assert {cls.__module__ for cls in OURS} == {"worker.errors"}
    assert drawn_errors() == {cls.__name__: cls.__bases__[0].__name__ for cls in OURS}


def test_the_exit_codes_are_those_of_the_contract() -> None:
    assert errors.BadSettings.exit_code == 2
    assert errors.BrokerUnusable.exit_code == 3
    assert errors.StoreUnusable.exit_code == 4
    assert errors.TopologyDiffers.exit_code == 5
