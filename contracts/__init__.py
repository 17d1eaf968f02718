"""What publishers, the worker and subscribers share: the messages and the names on the broker.

Importing this package pulls in pydantic and nothing else: no broker client, no MongoDB, no worker.
"""

from contracts.messages import (
    BODY_BYTES_MAX,
    FieldProblem,
    InvalidRequest,
    Outcome,
    OutcomeEvent,
    RejectionReason,
    ReservationRequest,
    UnreadableRequest,
    read_request,
)

__all__ = [
    "BODY_BYTES_MAX",
    "FieldProblem",
    "InvalidRequest",
    "Outcome",
    "OutcomeEvent",
    "RejectionReason",
    "ReservationRequest",
    "UnreadableRequest",
    "read_request",
]
