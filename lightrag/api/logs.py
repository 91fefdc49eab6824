"""Log lines as JSON, each with the request and the tenant it belongs to. No content, no query strings, no secrets."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from lightrag.api.context import CURRENT
from lightrag.tracing import current_trace

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_FIELDS = frozenset({"method", "route", "status", "seconds", "key_id", "reason", "address"})
"""What callers may add with ``extra``; everything else is left out, so that nothing gets in by accident."""


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        context = CURRENT.get()
        if context is not None:
            line["request_id"] = context.request_id
            if context.principal is not None:
                line["tenant"] = context.principal.tenant
        if trace := current_trace():
            line["trace"] = trace
        line.update((name, value) for name, value in vars(record).items() if name in _FIELDS - _STANDARD)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def install_json_logs(level: int = logging.INFO) -> None:
    """Let the library's loggers write JSON to standard error. For processes that own their output: the ingress."""
    logger = logging.getLogger("lightrag")
    if any(isinstance(handler.formatter, JsonFormatter) for handler in logger.handlers):
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


__all__ = ["JsonFormatter", "install_json_logs"]
