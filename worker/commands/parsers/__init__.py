"""What each command takes from the command line.

    run_parser, audit_parser, dead_letters_parser, movies_parser, publish_parser, replay_parser
    shared   what they have in common

Each module adds a command, or a group of them: its options, its settings, its help with examples,
and the function that runs it. Refuses to load what a command needs until the command is called, so
that ``--help`` answers at once and ``run`` needs no terminal library.
"""
