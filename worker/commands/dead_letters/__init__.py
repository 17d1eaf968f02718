"""Dead letters: what could not be decided, for an operator to look at, send back or drop.

    selection   what a dead letter is about, and which ones are selected
    show        ``dead-letters list`` and ``show``
    redrive     ``dead-letters redrive``
    drop        ``dead-letters drop``

Refuses to know how RabbitMQ hands dead letters out and takes them back, which is in ``broker``, and
to decide what a request comes to, which is in ``rules``.
"""
