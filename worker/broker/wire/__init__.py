"""The fence round everything that goes past aiormq, because one message at a time is too slow.

    channel        aiormq's channel, with the frames that come by the thousand taken out
    demultiplexer  takes these frames off the socket, and passes on the rest
    decoding       what the bytes of a delivery, a return or a confirmation mean
    encoding       the bytes of a message to be published

Knows AMQP and nothing of reservations. Should aiormq become fast enough, all of it can go.
"""
