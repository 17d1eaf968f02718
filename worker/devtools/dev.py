"""``reservation-worker dev``: both servers and a worker on this machine, until Ctrl-C."""

from __future__ import annotations

import sys
from pathlib import Path

from worker.devtools.servers import embedded_servers
from worker.service.runtime import run_worker
from worker.settings import PREFIX, Settings


async def run_dev(settings: Settings, folder: Path | None) -> None:
    """Start the servers, print where they are, and run a worker until it is asked to stop.

    The data is kept in ``folder``, or gone afterwards if that is None. Raises MissingServer or
    EmbeddedServerError when a server cannot be started.
    """
    print("starting a real RabbitMQ and a real MongoDB, about 10 s …", file=sys.stderr)
    async with embedded_servers(folder) as servers:
        # On standard output and as assignments, so that another shell can take them as they are.
        print(f"export {PREFIX}AMQP_URL='{servers.amqp_url}'")
        print(f"export {PREFIX}MONGODB_URI='{servers.mongodb_uri}'", flush=True)
        print("Ctrl-C stops all of it", file=sys.stderr)
        await run_worker(
            settings.model_copy(
                update={"amqp_url": servers.amqp_url, "mongodb_uri": servers.mongodb_uri}
            )
        )
