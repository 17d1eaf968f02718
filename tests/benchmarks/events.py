"""The event as an ordinary program would write it, with dictionaries and aio-pika's message.

It has all properties and headers of the contract's event, so that every contestant causes the
broker the same work.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import aio_pika

Document = dict[str, Any]


def outcome(
    request: Document,
    reason: str | None,
    *,
    movie_version: int,
    seats_available: int,
    decided_at: datetime,
) -> Document:
    """The body of the event as in the contract."""
    return {
        "requestId": request["requestId"],
        "movieId": request["movieId"],
        "timeSlotId": request["timeSlotId"],
        "numberOfPeople": request["numberOfPeople"],
        "outcome": "rejected" if reason else "confirmed",
        **({"reason": reason} if reason else {}),
        "movieVersion": movie_version,
        "seatsAvailable": seats_available,
        "decidedAt": decided_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


def published(event: Document, correlation_id: str | None) -> aio_pika.Message:
    """The message with this body; its correlation id is the request's id by default."""
    event_id = f"{event['requestId']}:{event['outcome']}"
    event_type = f"reservation.{event['outcome']}.v1"
    return aio_pika.Message(
        json.dumps(event, separators=(",", ":")).encode(),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=event_id,
        correlation_id=correlation_id or event["requestId"],
        type=event_type,
        app_id="reservation-worker",
        timestamp=datetime.fromisoformat(event["decidedAt"]),
        headers={
            "ce-specversion": "1.0",
            "ce-id": event_id,
            "ce-source": "/reservation-worker",
            "ce-type": event_type,
            "ce-subject": event["movieId"],
            "ce-time": event["decidedAt"],
        },
    )
