"""MongoDB, and the only importer of its driver: the movies, the ledger, the commit.

Turns documents into the values of the rules and back, and translates every failure of the driver
into the project's own. Refuses to know why a request was confirmed, what is retried, and that there
is a broker. Importing this package loads no driver; its modules do.
"""
