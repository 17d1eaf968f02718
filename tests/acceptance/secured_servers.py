"""Servers as they stand in production: TLS only, users with passwords, and least privileges.

Both have certificates of an authority that is made for the occasion.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus

import trustme
from pymongo import AsyncMongoClient

from worker.devtools.servers import EmbeddedMongo, EmbeddedRabbit
from worker.devtools.servers.ports import LOOPBACK, free_ports
from worker.devtools.servers.process import together

DATABASE: Final = "reservations"
ADMINISTRATOR, PASSWORD = "root", "s3same-öffne/dich@:#?%"
WORKER_PASSWORD: Final = "w0rker:p@ss/w%rd?#"
"""Everything that means something in a URL."""

Document = dict[str, Any]
Permissions = tuple[str, str, str]
"""To configure, to write and to read: a regular expression each, for the names of RabbitMQ."""


@dataclass(frozen=True)
class Certificates:
    """Files in the PEM format: who is trusted, a server's own, and a stranger that nobody knows."""

    authority: Path
    server: Path
    stranger: Path

    @classmethod
    def made_in(cls, folder: Path) -> Certificates:
        """A certificate for 127.0.0.1, and for no other name."""
        authority, stranger = trustme.CA(), trustme.CA()
        files = cls(*(folder / f"{name}.pem" for name in ("authority", "server", "stranger")))
        authority.cert_pem.write_to_path(files.authority)
        stranger.cert_pem.write_to_path(files.stranger)
        authority.issue_cert(LOOPBACK).private_key_and_cert_chain_pem.write_to_path(files.server)
        return files


@dataclass(frozen=True)
class SecuredServers:
    """Both servers, and their addresses for a user and a password."""

    mongo: EmbeddedMongo
    rabbit: EmbeddedRabbit
    tls_port: int
    certificates: Certificates

    def amqp_url(
        self,
        user: str = ADMINISTRATOR,
        password: str = PASSWORD,
        *,
        host: str = LOOPBACK,
        ca: Path | None = None,
    ) -> str:
        """The address over TLS for this user."""
        trusted = ca or self.certificates.authority
        name = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"amqps://{name}@{host}:{self.tls_port}/?cafile={trusted}"

    def mongodb_uri(
        self,
        user: str = ADMINISTRATOR,
        password: str = PASSWORD,
        *,
        host: str = LOOPBACK,
        ca: Path | None = None,
    ) -> str:
        """The address over TLS for this user."""
        trusted = ca or self.certificates.authority
        port = self.mongo.members[0].port
        name = f"{quote_plus(user)}:{quote_plus(password)}"
        return (
            f"mongodb://{name}@{host}:{port}/?authSource=admin&tls=true&tlsCAFile={trusted}"
            f"&replicaSet={self.mongo.replica_set}"
        )

    async def grant_role(
        self, user: str, privileges: list[Document], password: str = WORKER_PASSWORD
    ) -> None:
        """A user of MongoDB with one role that has these privileges, whether it is new or not."""
        async with AsyncMongoClient[Document](self.mongodb_uri()) as client:
            role, admin = f"role-{user}", client.admin
            known = await admin.command("rolesInfo", role)
            command = "updateRole" if known["roles"] else "createRole"
            await admin.command(command, role, privileges=privileges, roles=[])
            if not (await admin.command("usersInfo", user))["users"]:
                await admin.command("createUser", user, pwd=password, roles=[role])


def _definitions(users: Mapping[str, Permissions]) -> Document:
    """Of these users, an administrator, and no guest."""
    known = {ADMINISTRATOR: (PASSWORD, (".*", ".*", ".*"))}
    known |= {name: (WORKER_PASSWORD, allowed) for name, allowed in users.items()}
    return {
        "vhosts": [{"name": "/"}],
        "users": [
            {"name": name, "password": password, "tags": ""}
            for name, (password, _) in known.items()
        ],
        "permissions": [
            {"user": name, "vhost": "/"}
            | dict(zip(("configure", "write", "read"), allowed, strict=True))
            for name, (_, allowed) in known.items()
        ],
    }


def _rabbit_config(
    tls_port: int, certificates: Certificates, definitions: Path
) -> Mapping[str, str]:
    return {
        "load_definitions": str(definitions),
        "listeners.ssl.1": f"{LOOPBACK}:{tls_port}",
        "ssl_options.cacertfile": str(certificates.authority),
        "ssl_options.certfile": str(certificates.server),
        "ssl_options.keyfile": str(certificates.server),
        "ssl_options.verify": "verify_none",
    }


async def _secure_mongo(secured_servers: SecuredServers) -> None:
    """An administrator in MongoDB; from then on nothing without TLS and a password."""
    async with secured_servers.mongo.members[0].admin() as admin:
        await admin.command("createUser", ADMINISTRATOR, pwd=PASSWORD, roles=["root"])
    await secured_servers.mongo.stop()
    files = secured_servers.certificates
    key_file = files.server.with_name("members.key")
    key_file.touch(mode=0o600)
    key_file.write_text(secrets.token_hex(32))
    secured_servers.mongo.secure(
        [
            *("--auth", "--keyFile", str(key_file), "--tlsMode", "requireTLS"),
            *("--tlsCertificateKeyFile", str(files.server), "--tlsCAFile", str(files.authority)),
            "--tlsAllowConnectionsWithoutCertificates",
        ],
        {
            "tls": True,
            "tlsCAFile": str(files.authority),
            "username": ADMINISTRATOR,
            "password": PASSWORD,
        },
    )
    await secured_servers.mongo.start()


@asynccontextmanager
async def secured_servers(users: Mapping[str, Permissions]) -> AsyncIterator[SecuredServers]:
    """Start both and secure both, with these users of RabbitMQ; and stop both at the end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        certificates = Certificates.made_in(folder)
        (tls_port,) = free_ports(1)
        definitions = folder / "definitions.json"
        definitions.write_text(json.dumps(_definitions(users)))
        config = _rabbit_config(tls_port, certificates, definitions)
        built = SecuredServers(
            mongo=EmbeddedMongo(folder / "mongodb"),
            rabbit=EmbeddedRabbit(folder / "rabbitmq", config=config),
            tls_port=tls_port,
            certificates=certificates,
        )

        async def secured_mongo() -> None:
            await built.mongo.start()
            await _secure_mongo(built)

        try:
            await together(secured_mongo(), built.rabbit.start())
            yield built
        finally:
            await together(built.mongo.stop(), built.rabbit.stop())
