"""The service: carries requests through collect, read, decide, commit, announce and settle.

    runtime        a worker's life: start, sessions with the broker one after another, drain
    supervisor     several worker processes on one machine
    signals        how a process is asked to stop
    backoff        how long to wait before something that ended is started again
    pipeline       the way of a batch of requests, from the queue to its acknowledgement
    recording      how the outcomes of a batch get into the ledger, whatever gets in the way
    contention     the policy: how to stay out of other workers' way, and what follows a failure
    announcement   what is published about an outcome

Refuses to know any driver: RabbitMQ is in ``broker``, MongoDB in ``store``, the rules in ``rules``.
"""
