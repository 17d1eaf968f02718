"""What developers use: ``dev``, ``demo``, real servers and the auditor. Not in the image.

    dev        both servers and a worker on this machine
    demo/      a premiere rush on real servers, audited
    servers/   MongoDB and RabbitMQ as child processes
    auditor    whether everything came out as promised, judged from outside

Refuses to be needed, and to know how a request is decided: only the command line imports it, and
only when ``dev`` or ``demo`` is called.
"""
