"""Making a client of a URI, without a word that gives away the password in it.

The driver quotes what it does not understand, and of a password that is not percent-encoded that
may be the half: in its errors, and in warnings that Python would print beside our log.
"""

from __future__ import annotations

import logging
import re
import warnings
from typing import Any, Final

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import PyMongoError

from worker.errors import StoreUnusable
from worker.redaction import without_secrets
from worker.store.documents import Document

log: Final = logging.getLogger(__name__)

VARIABLE: Final = "RESERVATION_MONGODB_URI"


def client_of(
    uri: str,
    **options: Any,  # noqa: ANN401  # Whatever the driver takes.
) -> AsyncIOMotorClient[Document]:
    """A client that connects when it is first used; raises StoreUnusable for a URI of no use.

    The driver leaves out options that it does not understand. With one about TLS that would mean
    to go on without TLS, so that is refused.
    """
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(uri, **options)
        except (PyMongoError, ValueError, TypeError, OSError) as failure:
            # Not only errors of the driver: a port that is no number is a plain ValueError, a
            # certificate that is not there an OSError.
            said = without_secrets(" ".join(str(failure).split()), uri)
            raise StoreUnusable(f"{VARIABLE} cannot be used: {said}") from None
    for warning in told:
        said = without_secrets(str(warning.message), uri).partition(" Did you mean")[0]
        if re.search("tls|ssl", said, re.IGNORECASE):
            client.close()
            raise StoreUnusable(f"{VARIABLE} cannot be used: {said}")
        log.warning("%s holds an option that is left out: %s", VARIABLE, said)
    return client
