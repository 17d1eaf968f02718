"""Real servers as child processes, for ``dev``, ``demo``, the tests and the benchmarks.

    programs   where ``mongod`` and ``rabbitmq-server`` are on this machine
    ports      which TCP ports they may have
    process    one server process: its log, its end, and why it cannot outlive us
    mongo      a replica set of one member, or of several for failover tests
    rabbit     one RabbitMQ node, with the port mapper it needs
    servers    both together

Refuses to know what is stored in them: no movie, queue or request is named here.
"""

from worker.devtools.servers.mongo import EmbeddedMongo
from worker.devtools.servers.rabbit import EmbeddedRabbit
from worker.devtools.servers.servers import EmbeddedServers, embedded_servers

__all__ = ["EmbeddedMongo", "EmbeddedRabbit", "EmbeddedServers", "embedded_servers"]
