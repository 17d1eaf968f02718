"""How the worker's log lines look: for a person at a terminal, or as JSON for a collector."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, Literal

TEXT_FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
NOISY_LIBRARIES: Final = ("aio_pika", "aiormq", "pymongo", "motor", "asyncio")
"""They log as errors what the worker expects, handles and reports in its own words."""


def configure_logging(level: str, log_format: Literal["text", "json"]) -> None:
    """Log to standard error; standard output is for the results of a command."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if log_format == "json" else logging.Formatter(TEXT_FORMAT))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in NOISY_LIBRARIES:
        logging.getLogger(name).setLevel("DEBUG" if level == "DEBUG" else "CRITICAL")


class _JsonLines(logging.Formatter):
    """One object per line: time (RFC 3339), level, logger, message, process, and any exception."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
