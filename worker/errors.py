"""Everything that can go wrong, in the project's own words.

Libraries' exceptions are translated once, in ``store`` and ``broker``; nothing above them
catches a driver's error. A refused seat is not an error: it is an outcome.

    WorkerError
    ├── BadSettings            exit code 2
    ├── BadInput               exit code 2: a file given to a command is not what it should be
    ├── DevtoolsMissing        exit code 2: `dev` or `demo` in an installation without them
    ├── BrokerUnusable         exit code 3 at the start, otherwise a reason to try again
    │   ├── SessionLost        one of the two connections, or a channel, is gone
    │   └── BrokerForbids      RabbitMQ answers, but does not let this user do what is needed
    ├── StoreUnusable          exit code 4 at the start, otherwise a reason to try again
    │   └── StoreForbids       MongoDB answers, but does not let this user do what is needed
    ├── TopologyDiffers        exit code 5
    ├── DrainTimedOut          exit code 6
    ├── OutcomesMissing        exit code 1: `publish --wait` saw no outcome for a request
    ├── NotRecorded            exit code 1: `replay` was given a request id without an outcome
    ├── NoSuchDeadLetter       exit code 1: `dead-letters show` was given an unknown id
    ├── NotAdopted             exit code 1: `movies adopt` could not record every balance
    ├── InvariantsViolated     exit code 1: `audit` found a violation
    ├── PromiseBroken          exit code 1: the audit of `demo` found a violation
    ├── EmbeddedServerError    exit code 1: a server for `dev` or `demo` did not start
    │   └── MissingServer      exit code 1: the program of a server is not installed
    └── CommitError            nothing was written
        ├── Conflict           another writer was faster: read again and decide again
        └── Refused            MongoDB will not store this: trying alone finds out which request
"""

from __future__ import annotations

from collections.abc import Iterator


class WorkerError(Exception):
    """Something went wrong."""

    exit_code = 1

    def __str__(self) -> str:
        return super().__str__() or (self.__doc__ or "").strip()


class BadSettings(WorkerError):
    """A setting or an argument has a value that cannot be used."""

    exit_code = 2


class BadInput(WorkerError):
    """A file given to a command is not what it should be."""

    exit_code = 2


class DevtoolsMissing(WorkerError):
    """The development tools are not part of this installation."""

    exit_code = 2


class BrokerUnusable(WorkerError):
    """RabbitMQ cannot be reached, or refuses what the worker needs."""

    exit_code = 3


class SessionLost(BrokerUnusable):
    """A connection or channel to RabbitMQ is gone; what was unsettled will be delivered again."""


class BrokerForbids(BrokerUnusable):
    """This user of RabbitMQ lacks a permission that the worker needs."""


class StoreUnusable(WorkerError):
    """MongoDB cannot be reached, or refuses what the worker needs."""

    exit_code = 4


class StoreForbids(StoreUnusable):
    """This user of MongoDB lacks a privilege that the worker needs."""


class TopologyDiffers(WorkerError):
    """An exchange or queue of the worker exists with other arguments."""

    exit_code = 5


class DrainTimedOut(WorkerError):
    """What was in flight was not finished within the drain time; it will be delivered again."""

    exit_code = 6


class OutcomesMissing(WorkerError):
    """Requests that were published have no outcome."""


class NotRecorded(WorkerError):
    """Some of the requests have no recorded outcome."""


class NoSuchDeadLetter(WorkerError):
    """There is no dead letter with this id."""


class NotAdopted(WorkerError):
    """Some time slots have no opening balance that could be recorded."""


class InvariantsViolated(WorkerError):
    """What is stored violates an invariant."""


class PromiseBroken(WorkerError):
    """The audit of the demo found a violation."""


class EmbeddedServerError(WorkerError):
    """A server that the project starts for itself did not start."""


class MissingServer(EmbeddedServerError):
    """The program of a server is not installed."""


class CommitError(WorkerError):
    """A batch was not committed; nothing of it was written."""


class Conflict(CommitError):
    """Another writer was faster, so the decisions no longer hold."""


class Refused(CommitError):
    """MongoDB refuses to store one of the changes of the batch."""


def causes(failure: BaseException) -> Iterator[BaseException]:
    """The exceptions inside a group and its inner groups, or else the failure itself."""
    if isinstance(failure, BaseExceptionGroup):
        for inner in failure.exceptions:
            yield from causes(inner)
    else:
        yield failure
