"""``python -m worker`` is the command ``reservation-worker``."""

import sys

from worker.cli import main

if __name__ == "__main__":
    sys.exit(main())
