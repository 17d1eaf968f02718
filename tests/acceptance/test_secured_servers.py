"""A worker among servers that let in nobody without TLS and a password, and allow only the least.

It does all of its work with the least that the README asks for, and what is missing of that it
says in one line, with what gives it, before it takes a request.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from pymongo import AsyncMongoClient

from tests.acceptance.cinema import Cinema, request_for, slots
from tests.acceptance.secured_servers import DATABASE, WORKER_PASSWORD, SecuredServers
from tests.acceptance.secured_users import PRIVILEGES, SECRETS, ended, shown
from worker.broker.permissions import GRANT

Client = AsyncMongoClient[dict[str, Any]]

LACKING: Final = {
    "no-events": "write on reservations.events",
    "no-dead-letters": "write on reservations.dead-letters",
    "no-writer": "write on reservations.events, reservations.dead-letters",
    "no-reader": "read on reservations.requests",
}


async def test_over_tls_and_with_least_privileges_everything_works(
    secured_cinema: Cinema,
) -> None:
    movie = await secured_cinema.show(*slots(2))
    worker = await secured_cinema.start_worker(LOG_LEVEL="DEBUG")
    reply_to = await secured_cinema.client.reply_queue()
    first, second, invalid = request_for(movie), request_for(movie, 2), request_for(movie, 0)
    await secured_cinema.client.publish(first, reply_to=reply_to)
    for request in (second, invalid, b"not JSON"):
        await secured_cinema.client.publish(request)
    names = [request["requestId"] for request in (first, second, invalid)]
    outcomes = await secured_cinema.client.outcomes(names)
    reasons = [outcomes[name].content.get("reason", "confirmed") for name in names]
    assert reasons == ["confirmed", "sold_out", "invalid_request"]
    await secured_cinema.client.dead_letters(2)
    await secured_cinema.client.until(lambda: len(secured_cinema.client.replies) == 1)
    assert (await secured_cinema.movie(movie))["timeSlots"][0]["bookedCount"] == 1
    assert await worker.stop() == 0
    assert "may not declare" in worker.log
    assert "may not see whether movies has the validator" in worker.log
    assert not [secret for secret in SECRETS if secret in worker.log]
    ours = [line for line in worker.messages if line["logger"].startswith("worker")]
    assert {line["level"] for line in ours if "dead-letters" not in line["message"]} == {"INFO"}


async def test_least_privileges_suffice_to_end_abandoned_transactions(
    secured_cinema: Cinema,
) -> None:
    movie = await secured_cinema.show(*slots(2))
    async with Client(secured_cinema.mongodb_uri, appname="reservation-worker") as dead:
        session = dead.start_session()
        await session.start_transaction()
        await dead[DATABASE].movies.update_one({"_id": movie}, {"$inc": {"n": 1}}, session=session)
        worker = await secured_cinema.start_worker()
        request = request_for(movie)
        await secured_cinema.client.publish(request)
        assert (await secured_cinema.client.outcome(request["requestId"]))["outcome"] == "confirmed"
        await worker.logged("aborted 1 transactions")
        assert await worker.stop() == 0


async def test_without_permission_for_replies_only_these_are_missing(
    secured: SecuredServers, secured_cinema: Cinema
) -> None:
    worker = await secured_cinema.start_worker(AMQP_URL=secured.amqp_url("silent", WORKER_PASSWORD))
    reply_to = await secured_cinema.client.reply_queue()
    async with asyncio.timeout(30):
        while "amq.default" not in worker.log:
            # The broker's refusal of one reply shows when the next one is sent.
            request = request_for("no-such-movie")
            await secured_cinema.client.publish(request, reply_to=reply_to)
            assert (await secured_cinema.client.outcome(request["requestId"]))[
                "reason"
            ] == "unknown_movie"
    assert await worker.stop() == 0
    assert "replies did not arrive" in worker.log
    assert secured_cinema.client.replies == []


async def test_a_missing_permission_is_named_and_ends_with_code_3(
    secured: SecuredServers, secured_cinema: Cinema
) -> None:
    urls = [secured.amqp_url(user, WORKER_PASSWORD) for user in LACKING]
    lines = await asyncio.gather(*(ended(secured_cinema, 3, AMQP_URL=url) for url in urls))
    for line, lacking in zip(lines, LACKING.values(), strict=True):
        assert line.endswith(f"lacks {lacking}: {GRANT}")


async def test_a_worker_starts_though_the_broker_blocks_publishers(
    secured: SecuredServers, secured_cinema: Cinema
) -> None:
    await secured.rabbit.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        worker = await secured_cinema.start_worker()
    finally:
        await secured.rabbit.ctl("set_vm_memory_high_watermark", "0.4")
    request = request_for("no-such-movie")
    await secured_cinema.client.publish(request)
    assert (await secured_cinema.client.outcome(request["requestId"]))["reason"] == "unknown_movie"
    assert await worker.stop() == 0


async def test_what_may_not_be_declared_is_named_and_ends_with_code_3(
    secured: SecuredServers, secured_cinema: Cinema
) -> None:
    await secured_cinema.client.channel.queue_delete("reservations.requests")
    await secured_cinema.client.channel.exchange_delete("reservations.events")
    line = await ended(secured_cinema, 3)
    assert "exchange reservations.events, queue reservations.requests not there" in line
    assert "dead-letters" not in line
    # A user who may declare just what is missing declares just that.
    await secured_cinema.start_worker(AMQP_URL=secured.amqp_url("founder", WORKER_PASSWORD))
    await secured_cinema.client.declare()


async def test_a_missing_privilege_is_named_and_ends_with_code_4(
    secured: SecuredServers, secured_cinema: Cinema
) -> None:
    uris: list[str] = []
    told: list[str] = []
    for privilege in PRIVILEGES:
        for action in privilege["actions"]:
            others = [other for other in PRIVILEGES if other is not privilege]
            less = {**privilege, "actions": [a for a in privilege["actions"] if a != action]}
            user, name = f"poor-{len(uris)}", privilege["resource"]["collection"]
            await secured.grant_role(user, [*others, less])
            uris.append(f"{secured.mongodb_uri(user, WORKER_PASSWORD)}&timeoutMS=3000")
            told.append(f"may not {action} on {DATABASE}.{name}: ")
    lines = await asyncio.gather(*(ended(secured_cinema, 4, MONGODB_URI=uri) for uri in uris))
    for line, expected in zip(lines, told, strict=True):
        assert expected in line
        assert shown("createRole", line)["privileges"] == PRIVILEGES


async def test_a_missing_collection_is_named_with_what_creates_it(
    secured_cinema: Cinema,
) -> None:
    for name in ("reservations", "movies"):
        await secured_cinema.database.drop_collection(name)
        line = await ended(secured_cinema, 4)
        assert f"the collection {name} is missing and this user may not create it" in line
        await secured_cinema.database.command(shown("db.runCommand", line))
    worker = await secured_cinema.start_worker()
    assert await worker.stop() == 0


async def test_a_validator_that_is_missing_is_named_with_what_adds_it(
    secured: SecuredServers, secured_cinema: Cinema
) -> None:
    listing = {"resource": {"db": DATABASE, "collection": ""}, "actions": ["listCollections"]}
    await secured.grant_role("looker", [*PRIVILEGES, listing])
    uri = secured.mongodb_uri("looker", WORKER_PASSWORD)
    worker = await secured_cinema.start_worker(MONGODB_URI=uri)
    assert await worker.stop() == 0
    (warning,) = {line["message"] for line in worker.messages if line["level"] == "WARNING"}
    await secured_cinema.database.command(shown("db.runCommand", warning))
    again = await secured_cinema.start_worker(MONGODB_URI=uri)
    assert await again.stop() == 0
    assert "WARNING" not in again.log
