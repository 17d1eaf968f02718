"""MongoDB, and the only importer of its driver: the movies, the ledger, the commit."""

from worker.store.store import Reading, Store

__all__ = ["Reading", "Store"]
