"""What is known about the request that is being answered, for log lines and for what a request used."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from lightrag.tenancy.types import Principal

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")


@dataclass(slots=True)
class RequestContext:
    """One request; filled while it passes through the layers."""

    request_id: str
    method: str
    path: str
    principal: Principal | None = None
    metered: bool = False
    """An answer was counted for it already."""


CURRENT: ContextVar[RequestContext | None] = ContextVar("lightrag_request", default=None)
"""``None`` outside requests. Tasks that a request starts see it too."""


def clean_request_id(given: str | None) -> str:
    """The client's id where it is harmless, else a new one."""
    return given if given and _REQUEST_ID.match(given) else uuid4().hex


def route_of(scope: Any) -> str:
    """The template of the route that answered, which unlike the path has few values; ``unmatched`` for none."""
    route = scope.get("route")
    return str(getattr(route, "path", "") or "unmatched")


__all__ = ["CURRENT", "RequestContext", "clean_request_id", "route_of"]
