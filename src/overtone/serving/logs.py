"""The server's log: text, or a JSON object a line, with the id of the request that a line is about, and no secrets."""

from __future__ import annotations

import contextvars
import json
import logging
import re
from datetime import UTC, datetime
from typing import Any, Literal

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
# Passwords in addresses: scheme://user:password@host.
_PASSWORD = re.compile(r"(?<=://)[^/\s@]+(?=@)")


class _Formatter(logging.Formatter):
    """Takes out the server's key and passwords of addresses, wherever they come from."""

    def __init__(self, key: str | None) -> None:
        super().__init__("%(levelname)s: %(message)s")
        self._key = key

    def format(self, record: logging.LogRecord) -> str:
        line = _PASSWORD.sub("***", self._line(record))
        return line.replace(self._key, "***") if self._key else line

    def _line(self, record: logging.LogRecord) -> str:
        id = request_id.get()
        return super().format(record) + (f" [{id}]" if id else "")


class _JsonFormatter(_Formatter):
    def _line(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if id := request_id.get():
            line["request_id"] = id
        facts: dict[str, Any] = getattr(record, "facts", {})
        if record.exc_info:
            facts = {**facts, "error": self.formatException(record.exc_info)}
        return json.dumps({**line, **facts})


def configure(format: Literal["text", "json"], key: str | None) -> None:
    """Send the lines of the server and of uvicorn to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter(key) if format == "json" else _Formatter(key))
    for name in ("overtone", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    # The requests are the middleware's own lines.
    logging.getLogger("uvicorn.access").disabled = True
