"""A worker among servers that let in nobody without TLS and a password, and allow only the least.

It does all of its work with the least that the README asks for, and what is missing of that it
says in one line, with what gives it, before it takes a request.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from pymongo import AsyncMongoClient

from tests.acceptance.castle import PRIVILEGES, SECRETS, ended, shown
from tests.acceptance.cinema import Cinema, request_for, slots
from tests.acceptance.fortress import DATABASE, WORKER_PASSWORD, Fortress
from worker.broker.permissions import GRANT

Client = AsyncMongoClient[dict[str, Any]]

LACKING: Final = {
    "no-events": "write on reservations.events",
    "no-letters": "write on reservations.dead-letters",
    "no-writer": "write on reservations.events, reservations.dead-letters",
    "no-reader": "read on reservations.requests",
}


async def test_with_the_least_privileges_and_over_tls_everything_works_and_nothing_is_declared(
    guarded: Cinema,
) -> None:
    movie = await guarded.show(*slots(2))
    worker = await guarded.start_worker(LOG_LEVEL="DEBUG")
    reply_to = await guarded.client.reply_queue()
    first, second, invalid = request_for(movie), request_for(movie, 2), request_for(movie, 0)
    await guarded.client.publish(first, reply_to=reply_to)
    for request in (second, invalid, b"not JSON"):
        await guarded.client.publish(request)
    names = [request["requestId"] for request in (first, second, invalid)]
    outcomes = await guarded.client.outcomes(names)
    reasons = [outcomes[name].content.get("reason", "confirmed") for name in names]
    assert reasons == ["confirmed", "sold_out", "invalid_request"]
    await guarded.client.dead_letters(2)
    await guarded.client.until(lambda: len(guarded.client.replies) == 1)
    assert (await guarded.movie(movie))["timeSlots"][0]["bookedCount"] == 1
    assert await worker.stop() == 0
    assert "may not declare" in worker.log
    assert "may not see whether movies has the validator" in worker.log
    assert not [secret for secret in SECRETS if secret in worker.log]
    ours = [line for line in worker.messages if line["logger"].startswith("worker")]
    assert {line["level"] for line in ours if "dead-letters" not in line["message"]} == {"INFO"}


async def test_a_transaction_that_a_dead_worker_left_open_is_ended_with_the_least_privileges(
    guarded: Cinema,
) -> None:
    movie = await guarded.show(*slots(2))
    async with Client(guarded.mongodb_uri, appname="reservation-worker") as dead:
        session = dead.start_session()
        await session.start_transaction()
        await dead[DATABASE].movies.update_one({"_id": movie}, {"$inc": {"n": 1}}, session=session)
        worker = await guarded.start_worker()
        request = request_for(movie)
        await guarded.client.publish(request)
        assert (await guarded.client.outcome(request["requestId"]))["outcome"] == "confirmed"
        await worker.logged("aborted 1 transactions")
        assert await worker.stop() == 0


async def test_without_the_permission_for_replies_only_replies_are_missing(
    castle: Fortress, guarded: Cinema
) -> None:
    worker = await guarded.start_worker(AMQP_URL=castle.amqp_url("silent", WORKER_PASSWORD))
    reply_to = await guarded.client.reply_queue()
    async with asyncio.timeout(30):
        while "amq.default" not in worker.log:
            # The broker's refusal of one reply shows when the next one is sent.
            request = request_for("no-such-movie")
            await guarded.client.publish(request, reply_to=reply_to)
            assert (await guarded.client.outcome(request["requestId"]))["reason"] == "unknown_movie"
    assert await worker.stop() == 0
    assert "replies did not arrive" in worker.log
    assert guarded.client.replies == []


async def test_a_missing_permission_ends_the_start_with_code_3_and_is_named(
    castle: Fortress, guarded: Cinema
) -> None:
    urls = [castle.amqp_url(user, WORKER_PASSWORD) for user in LACKING]
    lines = await asyncio.gather(*(ended(guarded, 3, AMQP_URL=url) for url in urls))
    for line, lacking in zip(lines, LACKING.values(), strict=True):
        assert line.endswith(f"lacks {lacking}: {GRANT}")


async def test_a_broker_that_blocks_publishers_does_not_keep_a_worker_from_starting(
    castle: Fortress, guarded: Cinema
) -> None:
    await castle.rabbit.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        worker = await guarded.start_worker()
    finally:
        await castle.rabbit.ctl("set_vm_memory_high_watermark", "0.4")
    request = request_for("no-such-movie")
    await guarded.client.publish(request)
    assert (await guarded.client.outcome(request["requestId"]))["reason"] == "unknown_movie"
    assert await worker.stop() == 0


async def test_what_is_missing_and_may_not_be_declared_ends_the_start_with_code_3_and_is_named(
    castle: Fortress, guarded: Cinema
) -> None:
    await guarded.client.channel.queue_delete("reservations.requests")
    await guarded.client.channel.exchange_delete("reservations.events")
    line = await ended(guarded, 3)
    assert "exchange reservations.events, queue reservations.requests not there" in line
    assert "dead-letters" not in line
    # Whoever may declare just what is missing, declares just that.
    await guarded.start_worker(AMQP_URL=castle.amqp_url("founder", WORKER_PASSWORD))
    await guarded.client.declare()


async def test_a_missing_privilege_ends_the_start_with_code_4_and_is_named(
    castle: Fortress, guarded: Cinema
) -> None:
    uris: list[str] = []
    told: list[str] = []
    for privilege in PRIVILEGES:
        for action in privilege["actions"]:
            others = [other for other in PRIVILEGES if other is not privilege]
            less = {**privilege, "actions": [a for a in privilege["actions"] if a != action]}
            user, name = f"poor-{len(uris)}", privilege["resource"]["collection"]
            await castle.grant_role(user, [*others, less])
            uris.append(f"{castle.mongodb_uri(user, WORKER_PASSWORD)}&timeoutMS=3000")
            told.append(f"may not {action} on {DATABASE}.{name}: ")
    lines = await asyncio.gather(*(ended(guarded, 4, MONGODB_URI=uri) for uri in uris))
    for line, expected in zip(lines, told, strict=True):
        assert expected in line
        assert shown("createRole", line)["privileges"] == PRIVILEGES


async def test_a_collection_that_is_missing_and_may_not_be_created_is_told_with_what_creates_it(
    guarded: Cinema,
) -> None:
    for name in ("reservations", "movies"):
        await guarded.database.drop_collection(name)
        line = await ended(guarded, 4)
        assert f"the collection {name} is missing and this user may not create it" in line
        await guarded.database.command(shown("db.runCommand", line))
    worker = await guarded.start_worker()
    assert await worker.stop() == 0


async def test_a_validator_that_may_not_be_added_is_told_with_what_adds_it(
    castle: Fortress, guarded: Cinema
) -> None:
    listing = {"resource": {"db": DATABASE, "collection": ""}, "actions": ["listCollections"]}
    await castle.grant_role("looker", [*PRIVILEGES, listing])
    uri = castle.mongodb_uri("looker", WORKER_PASSWORD)
    worker = await guarded.start_worker(MONGODB_URI=uri)
    assert await worker.stop() == 0
    (warning,) = {line["message"] for line in worker.messages if line["level"] == "WARNING"}
    await guarded.database.command(shown("db.runCommand", warning))
    again = await guarded.start_worker(MONGODB_URI=uri)
    assert await again.stop() == 0
    assert "WARNING" not in again.log
