"""The commands of operators and publishers, each a module or a package of its own.

    parsers         what each command takes from the command line, and its help
    publish         ``publish``: requests from a file, and what becomes of them
    import_movies   ``movies import``; the rules for its file are in ``movie_file``
    audit           ``audit`` and ``movies adopt``
    dead_letters    ``dead-letters list``, ``show``, ``redrive`` and ``drop``
    replay          ``replay``: recorded outcomes once more
    prompt          asking before something that cannot be undone
    terminal        text from strangers made safe to look at, and lines into a pipe

Refuses to decide anything about a request, and to know a driver: the rules are in ``rules``, the
service in ``service``, the servers behind ``broker`` and ``store``.
"""
