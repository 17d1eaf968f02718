"""The one place where the client library's exceptions become the project's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aio_pika.exceptions import AMQPError
from pamqp.exceptions import PAMQPException

from worker.errors import BrokerUnusable, SessionLost

CLIENT_FAILURES: Final = (
    AMQPError,
    PAMQPException,
    OSError,
    TimeoutError,
    # aiormq raises these two for a connection or channel that is already closed.
    RuntimeError,
    StopAsyncIteration,
)


@contextmanager
def translated_failures(what: str, error: type[BrokerUnusable] = SessionLost) -> Iterator[None]:
    """Raise ``error``, saying ``what`` was being done, in place of any exception of the client."""
    try:
        yield
    except CLIENT_FAILURES as failure:
        raise error(f"{what}: {explain(failure)}") from failure


def explain(failure: BaseException | None) -> str:
    """The failure in one line; several of the client's exceptions have no text of their own."""
    if failure is None:
        return "it was closed"
    text = " ".join(str(failure).split())
    return text if text and not text.isdigit() else repr(failure)
