"""What each command takes: a module for each, whose one function adds the command's parser.

That function says the command's options, its settings, its help with examples, and what runs it.
Refuses to load what a command needs before it is called, so that ``--help`` answers at once and
``run`` in a small image needs no terminal library.
"""
