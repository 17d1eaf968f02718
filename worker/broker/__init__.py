"""RabbitMQ, and the only importer of its client: sessions, consuming, publishing, settling.

Hands deliveries on and publishes messages as plain values, and translates every failure of the
client into the project's own. Refuses to know what a request comes to, and that there is a store.
Importing this package loads no client; its modules do.
"""
