"""RabbitMQ, and the only importer of its client: sessions, consuming, publishing, settling.

    session          a pair of connections, and everything that lives as long as they do
    consumer         collects deliveries from the request queue, and settles them
    publisher        publishes batches of messages, and waits for their confirms
    replies          sends the copies of events that requests asked for, without waiting
    reply_address    whether a reply may be sent to the address in a request
    topology         declares the exchanges and queues of the contract
    permissions      checks what the user may do, before the first request
    watchdog         ends a session that is connected and yet does nothing
    dead_letters     pages through the dead letters, for the commands of operators
    subscription     receives events and dead letters, for commands that watch the workers
    connection       opens and closes connections
    client_failures  translates the client's exceptions into the project's own
    messages         the values that pass between the broker and the rest: deliveries, messages
    wire/            everything that goes past aiormq, because it is too slow

Deliveries leave this package and messages enter it as plain values; nothing of the client does.
Refuses to know what a request comes to, and that there is a store. Importing this package loads no
client; its modules do, but for ``messages`` and ``reply_address``.
"""
