"""Who is not let in by servers with TLS and passwords, or does not trust them: told in one line."""

from __future__ import annotations

import asyncio

from tests.acceptance.cinema import Cinema
from tests.acceptance.commands import run_command
from tests.acceptance.secured_servers import WORKER_PASSWORD, SecuredServers
from tests.acceptance.secured_users import ended, require_secrecy


async def test_a_certificate_of_a_stranger_or_another_host_is_refused(
    secured: SecuredServers, secured_cinema: Cinema
) -> None:
    stranger = secured.certificates.stranger
    urls = (secured.amqp_url(ca=stranger), secured.amqp_url(host="localhost"))
    uris = (secured.mongodb_uri(ca=stranger), secured.mongodb_uri(host="localhost"))
    lines = await asyncio.gather(
        *(ended(secured_cinema, 3, AMQP_URL=url) for url in urls),
        *(ended(secured_cinema, 4, MONGODB_URI=f"{uri}&timeoutMS=2000") for uri in uris),
    )
    for line in lines[::2]:
        assert "certificate verify failed" in line, line
        assert "127.0.0.1" in line
    for line in lines[1::2]:
        assert "certificate is not valid for 'localhost'" in line, line


async def test_a_file_that_is_not_there_is_named(
    secured: SecuredServers, secured_cinema: Cinema
) -> None:
    gone = secured.certificates.authority.with_name("gone.pem")
    lines = await asyncio.gather(
        ended(secured_cinema, 3, AMQP_URL=secured.amqp_url(ca=gone)),
        ended(secured_cinema, 4, MONGODB_URI=secured.mongodb_uri(ca=gone)),
    )
    for line in lines:
        assert str(gone) in line
        assert "No such file" in line


async def test_without_tls_nobody_gets_in_and_the_line_says_where(
    secured: SecuredServers, secured_cinema: Cinema
) -> None:
    url = secured.amqp_url().replace("amqps://", "amqp://")
    uri = secured.mongodb_uri().replace("&tls=true", "").replace("&tlsCAFile", "&appName")
    lines = await asyncio.gather(
        ended(secured_cinema, 3, AMQP_URL=url),
        ended(secured_cinema, 4, MONGODB_URI=f"{uri}&timeoutMS=2000"),
    )
    for line in lines:
        assert "127.0.0.1" in line


async def test_a_wrong_password_is_reported_and_never_shown(
    secured: SecuredServers, secured_cinema: Cinema
) -> None:
    wrong = f"{WORKER_PASSWORD}!"
    amqp = {
        "AMQP_URL": secured.amqp_url("service", wrong),
        "MONGODB_URI": secured_cinema.mongodb_uri,
    }
    mongodb = {
        "AMQP_URL": secured_cinema.amqp_url,
        "MONGODB_URI": f"{secured.mongodb_uri('service', wrong)}&timeoutMS=3000",
    }
    movie = '{"_id": "heat", "timeSlots": []}'
    commands = await asyncio.gather(
        run_command({**amqp, "LOG_LEVEL": "DEBUG"}, "run"),
        run_command({**mongodb, "LOG_LEVEL": "DEBUG"}, "run"),
        run_command({**amqp, "LOG_LEVEL": "DEBUG"}, "publish", "-", given="{}\n"),
        run_command({**mongodb, "LOG_LEVEL": "DEBUG"}, "movies", "import", "-", given=movie),
    )
    assert [command.code for command in commands] == [3, 4, 3, 4]
    for command in commands:
        require_secrecy(command)
        assert "Traceback" not in command.errors
    for command, said in zip(
        commands, ["ACCESS_REFUSED", "Authentication failed"] * 2, strict=True
    ):
        (line,) = (t for t in command.errors.splitlines() if t.startswith("reservation-worker: "))
        assert said in line
