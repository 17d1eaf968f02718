"""RabbitMQ, and the only importer of its client: topology, taking, publishing, settling."""

from worker.broker.session import Session

__all__ = ["Session"]
