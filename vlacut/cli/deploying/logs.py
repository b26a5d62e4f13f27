"""Logs on standard error: a line for people, or an object for machines."""

from __future__ import annotations

import json
import logging
from typing import ClassVar


class JsonFormatter(logging.Formatter):
    """An object a line: `time` (seconds since 1970), `level`, `logger`, `message`, and extras."""

    _extras: ClassVar[tuple[str, ...]] = ("event", "robot")

    def format(self, record: logging.LogRecord) -> str:
        """See the class."""
        line = {
            "time": round(record.created, 6),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in self._extras if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr(command: str, as_json: bool) -> None:
    """What the library logs, from `INFO` on."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter() if as_json else logging.Formatter(f"vlacut {command}: %(message)s")
    )
    logger = logging.getLogger("vlacut")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
