"""Makes a client for a URI, without revealing the password in it.

The driver quotes what it does not understand, which may be half of a password that is not
percent-encoded: in its errors, and in warnings that Python would print beside our log.
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
    **options: Any,  # noqa: ANN401  # Passed on to the driver.
) -> AsyncIOMotorClient[Document]:
    """A client that connects when it is first used; raises StoreUnusable for an unusable URI.

    The driver ignores options that it does not understand. Ignoring one about TLS could mean to
    connect without TLS, so such a URI is refused.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(uri, **options)
        except (PyMongoError, ValueError, TypeError, OSError) as failure:
            # Not only the driver's own errors: a port that is not a number is a plain ValueError,
            # a missing certificate an OSError.
            message = without_secrets(" ".join(str(failure).split()), uri)
            raise StoreUnusable(f"{VARIABLE} cannot be used: {message}") from None
    for warning in caught:
        message = without_secrets(str(warning.message), uri).partition(" Did you mean")[0]
        if re.search("tls|ssl", message, re.IGNORECASE):
            client.close()
            raise StoreUnusable(f"{VARIABLE} cannot be used: {message}")
        log.warning("%s holds an option that is left out: %s", VARIABLE, message)
    return client
