"""A password in a URL is shown nowhere: not in a log line, an error, a help text or a warning.

However odd the password and however wrong the URL, for every command that takes one. No server is
at these URLs; servers that refuse a password are left to the tests of secured servers.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.acceptance.processes import ROOT

Command = tuple[Mapping[str, str], Sequence[str]]

DEADLINE_SECONDS: Final = 60
SECRET: Final = "hunter2"
PASSWORDS: Final = (
    SECRET,
    f"{SECRET}%2F%40",
    f"a@{SECRET}",
    f"{SECRET}:b",
    f"12/{SECRET}",
    f"12?{SECRET}",
    f"12#{SECRET}",
    f"%zz{SECRET}",
    f"[{SECRET}]",
    f"{SECRET}\\",
    f"pass {SECRET} word",
    f"é{SECRET}",
)
MONGODB_OPTIONS: Final = (
    f"tlsCertificateKeyFilePassword={SECRET}",
    f"tls=true&tlsCertificateKeyFile=/no/such/file&tlsCertificateKeyFilePassword={SECRET}",
    f"authMechanism=MONGODB-AWS&authMechanismProperties=AWS_SESSION_TOKEN:{SECRET}",
    f"authMechanismProperties={SECRET}:x",
    f"proxyPassword={SECRET}",
)
AMQP_URLS: Final = (
    *(f"amqp://user:{password}@127.0.0.1:1/" for password in PASSWORDS),
    *(f"amqp://user:{SECRET}@{host}/" for host in ("ho st", "[::1", "x" * 70, "..", "127.0.0.1:x")),
    *(
        f"amqps://user:{SECRET}@127.0.0.1:1/?{more}"
        for more in ("cafile=/no", "cadata=!", "auth=x")
    ),
    *(f"user:{SECRET}@127.0.0.1", f"amqp:user:{SECRET}", f"amqp://user:{SECRET}"),
)
MONGODB_URIS: Final = (
    *(f"mongodb://user:{password}@127.0.0.1:1/?timeoutMS=50" for password in PASSWORDS),
    *(f"mongodb://user:{SECRET}@{host}/?timeoutMS=50" for host in ("[::1", "127.0.0.1:x", "..")),
    *(f"mongodb://user:{SECRET}@127.0.0.1:1/?timeoutMS=50&{more}" for more in MONGODB_OPTIONS),
    *(
        f"user:{SECRET}@127.0.0.1",
        f"mongodb:user:{SECRET}",
        f"mongodb+srv://user:{SECRET}@x.invalid",
    ),
)
MOVIE: Final = '{"_id": "heat", "timeSlots": []}'
WRONG_ARGUMENTS: Final = (
    ["publish", "FILE", "--mongodb-uri", f"mongodb://user:{SECRET} {SECRET}@host/"],
    ["movies", "import", "FILE", f"--amqp-url=amqp://user:{SECRET}@host/"],
    ["movies", "import", "FILE", f"--amqp-url=user:{SECRET}@host"],
    ["run", "--processes", f"amqp://user:{SECRET}@host/"],
    [f"amqp://user:{SECRET}@host/"],
    ["run", f"amqp://user:{SECRET}@host/"],
    ["run", "--amqp-url", f"amqp://user:{SECRET}@host:x/"],
    ["run", "--log-level", f"amqp://user:{SECRET}@host/"],
)

PROGRAM: Final = """
import json, os, sys
from worker.cli import main

for settings, arguments in json.load(sys.stdin):
    os.environ.update(settings)
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = ended.code
    print(f"=== {code}", flush=True)
    sys.stderr.flush()
"""
"""Many commands in one process, because Python takes longer to start than to refuse a URL."""


async def said(folder: Path, commands: Sequence[Command]) -> list[tuple[int, str]]:
    """The exit code of each command, and all that it wrote."""
    file = folder / "movies.jsonl"
    file.write_text(MOVIE)
    given = [
        (
            {f"RESERVATION_{name}": value for name, value in settings.items()},
            [str(file) if argument == "FILE" else argument for argument in arguments],
        )
        for settings, arguments in commands
    ]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM),
        env={**os.environ, "PYTHONPATH": str(ROOT), "RESERVATION_LOG_LEVEL": "DEBUG"},
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        output, _ = await process.communicate(json.dumps(given).encode())
    *parts, rest = re.split(r"=== (\d+)\n", output.decode())
    assert len(parts) == 2 * len(commands), rest
    return [(int(parts[n + 1]), parts[n]) for n in range(0, len(parts), 2)]


async def require_secrecy(folder: Path, commands: Sequence[Command], *codes: int) -> None:
    for (code, text), command in zip(await said(folder, commands), commands, strict=True):
        assert SECRET not in text, f"{command}\n{text}"
        assert "Traceback" not in text, f"{command}\n{text}"
        assert code in codes, f"{command} ended with {code}\n{text}"
        assert "reservation-worker" in text


async def test_no_url_of_rabbitmq_shows_its_password(tmp_path: Path) -> None:
    commands = [({"AMQP_URL": url}, ["publish", "FILE"]) for url in AMQP_URLS]
    await require_secrecy(tmp_path, commands, 2, 3)


async def test_no_uri_of_mongodb_shows_its_password(tmp_path: Path) -> None:
    imports = [({"MONGODB_URI": uri}, ["movies", "import", "FILE"]) for uri in MONGODB_URIS]
    runs = [({"MONGODB_URI": uri}, ["run"]) for uri in MONGODB_URIS[::4]]
    await require_secrecy(tmp_path, imports + runs, 2, 4)


async def test_a_url_among_the_wrong_arguments_is_not_repeated(tmp_path: Path) -> None:
    await require_secrecy(tmp_path, [({}, arguments) for arguments in WRONG_ARGUMENTS], 2)


async def test_the_help_shows_no_url_of_the_environment(tmp_path: Path) -> None:
    url = f"user:{SECRET}@host/"
    settings = {"AMQP_URL": f"amqp://{url}", "MONGODB_URI": f"mongodb://{url}"}
    names = ("run", "publish", "movies import", "dev", "")
    commands = [(settings, [*name.split(), "--help"]) for name in names]
    await require_secrecy(tmp_path, commands, 0)
