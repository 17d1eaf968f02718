"""The commands of operators and publishers, each a module or a package of its own.

Refuses to decide anything about a request, and to know a driver: the rules are in ``rules``, the
service in ``service``, the servers behind ``broker`` and ``store``. What the commands take from the
command line is in ``parsers``.
"""
