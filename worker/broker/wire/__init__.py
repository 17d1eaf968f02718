"""Everything that goes past aiormq, fenced off here, because one message at a time is too slow.

    channel        aiormq's channel, but frequent frames are handled by plain functions
    demultiplexer  takes these frames off the socket, and passes all others on to aiormq
    decoding       decodes deliveries, returned messages and confirmations
    encoding       encodes a message to be published

Knows AMQP, and refuses to know anything about reservations or sessions. Should aiormq become fast
enough, the whole package can be deleted.
"""
