"""What developers use: real servers as child processes, ``dev`` and ``demo``. Not in the image.

Refuses to be needed: nothing imports it but the command line, and that only for its commands.
"""
