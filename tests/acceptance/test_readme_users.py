"""The documented statements that create users, pasted: with them each user can do its work."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any, Final

from pymongo import AsyncMongoClient

from tests.acceptance.cinema import Cinema
from tests.acceptance.commands import run_command
from tests.acceptance.secured_servers import SecuredServers

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = "\n".join(
    page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
)
MOVIE: Final = json.dumps({"_id": "heat", "timeSlots": [{"id": 1, "capacity": 5}]})


async def paste(secured: SecuredServers) -> None:
    """Run every statement that the pages give to rabbitmqctl and to mongosh."""
    for line in re.findall(r"^rabbitmqctl (.*)$", PAGES, re.MULTILINE):
        await secured.rabbit.ctl(*shlex.split(line))
    statements = re.findall(
        r'^db\.getSiblingDB\("admin"\)\.create(Role|User)\((\{.*?\})\)$',
        PAGES,
        re.MULTILINE | re.DOTALL,
    )
    async with AsyncMongoClient[dict[str, Any]](secured.mongodb_uri()) as client:
        for kind, text in statements:
            content = json.loads(text)
            name = content.pop(kind.lower())
            await client.admin.command(f"create{kind}", name, **content)


def request(request_id: str) -> str:
    asked = {"requestId": request_id, "movieId": "heat", "timeSlotId": 1, "numberOfPeople": 2}
    return json.dumps(asked)


async def test_each_documented_user_can_do_its_work(
    secured: SecuredServers, secured_cinema: Cinema
) -> None:
    await paste(secured)

    def amqp(user: str) -> dict[str, str]:
        return {"AMQP_URL": secured.amqp_url(user, "password")}

    def mongodb(user: str) -> dict[str, str]:
        return {"MONGODB_URI": secured.mongodb_uri(user, "password")}

    imported = await run_command(mongodb("catalogue"), "movies", "import", "-", given=MOVIE)
    assert "1 new" in imported.output, imported.errors
    worker = await secured_cinema.start_worker(**amqp("worker"), **mongodb("worker"))
    published = await run_command(amqp("shop"), "publish", "-", given=request("a"))
    assert published.code == 0, published.errors
    waited = await run_command(amqp("tester"), "publish", "-", "--wait", given=request("b"))
    assert '"seatsAvailable":1' in waited.output, waited.errors
    assert await worker.stop() == 0
