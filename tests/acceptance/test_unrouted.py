"""Events that nobody subscribed to, on a broker that no other worker or subscriber shares."""

from __future__ import annotations

from tests.acceptance.cinema import Cinema, request_for


async def test_an_event_without_a_subscriber_is_kept(
    cinema: Cinema,
) -> None:
    await cinema.start_worker()
    await cinema.client.take_unrouted_events()
    requests = [request_for("no-such-movie") for _ in range(3)]
    await cinema.client.publish_all(requests)
    await cinema.client.outcomes([request["requestId"] for request in requests])
