"""What went wrong with one request: the error for the caller, and whether trying again may help.

What the service itself says is believed: it answers 503, or 429 with ``Retry-After``, where coming back helps, and 502
and 504 where it does not. The same numbers from a proxy, or from Ray Serve, say nothing about the request, and are
passing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from lightrag.errors import (
    AuthenticationError,
    BackendError,
    ConflictError,
    DataError,
    DeadlineExceeded,
    LightRAGError,
    LimitError,
    NotFoundError,
    PermissionDenied,
    QuotaExceeded,
    UsageError,
)

_BETWEEN: Final = frozenset({408, 429, 500, 502, 503, 504})
"""What proxies and Ray Serve answer where it is not the request that is wrong; 500 is a replica that died."""
_UNSENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_LOST: Final = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)
_OWN: Final = "urn:lightrag:problem:"
_KINDS: Final[dict[str, type[LightRAGError]]] = {
    "usage": UsageError,
    "authentication": AuthenticationError,
    "permission": PermissionDenied,
    "data": DataError,
    "not-found": NotFoundError,
    "conflict": ConflictError,
    "deadline": DeadlineExceeded,
    "quota": QuotaExceeded,
    "limit": LimitError,
}


class Fault(Exception):
    """One attempt failed."""

    def __init__(
        self,
        error: LightRAGError,
        *,
        passing: bool,
        undone: bool = False,
        doubtful: bool = False,
        running: bool = False,
        wait: float = 0.0,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        """For the caller, unless there is another attempt."""
        self.passing = passing
        """Another attempt may succeed."""
        self.undone = undone
        """Nothing has come of the attempt, for certain."""
        self.doubtful = doubtful
        """Something may have come of it that the service does not know any more, even by its key."""
        self.running = running
        """An earlier attempt is still worked on. Waiting for it counts as no attempt."""
        self.wait = wait
        """Seconds, at least."""


def lost(error: httpx.HTTPError, url: str) -> Fault:
    """Nobody answered, or not to the end."""
    told: LightRAGError
    if isinstance(error, httpx.ReadTimeout):
        told = DeadlineExceeded(f"the service at {url} did not answer in time", subject=url)
    else:
        told = BackendError(
            f"no service answers at {url} ({type(error).__name__}): start it with `lightrag up`",
            subject=url,
            retryable=True,
        )
    fault = Fault(told, passing=isinstance(error, _LOST), undone=isinstance(error, _UNSENT))
    fault.__cause__ = error
    return fault


def refused(response: httpx.Response, key: str = "") -> Fault:
    """The answer is a refusal, perhaps because the same write, known by its key, is still under way."""
    if key and response.status_code == 409 and key in response.text:
        told = DeadlineExceeded("the service did not finish this in time; it may do so yet")
        return Fault(told, passing=True, running=True)
    try:
        document = response.json()
    except ValueError:
        document = {}
    if not isinstance(document, dict):
        document = {}
    document.setdefault("detail", f"the service answered {response.status_code} {response.reason_phrase}")
    return reported(document, response.status_code, retry_after(response.headers.get("retry-after", "")))


def reported(document: dict[str, Any], status: int, wait: float | None = None) -> Fault:
    """A problem document, and the seconds that were asked for beside it."""
    kind, detail = str(document.get("type", "")), str(document["detail"])
    own = status == 503 or (status == 429 and wait is not None)
    passing = own if kind.startswith(_OWN) else status in _BETWEEN
    branch = _KINDS.get(kind.removeprefix(_OWN))
    told: LightRAGError
    if branch is QuotaExceeded:
        told = QuotaExceeded(detail, retry_after=wait)
    elif branch is not None:
        told = branch(detail)
    else:
        told = BackendError(detail, retryable=passing)
    return Fault(told, passing=passing, undone=status == 429, doubtful=status != 429, wait=wait or 0.0)


def retry_after(header: str) -> float | None:
    """Seconds that a ``Retry-After`` asks to wait for, which it says as a number or as a date."""
    if re.fullmatch(r"\d+(\.\d+)?", header):
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


__all__ = ["Fault", "lost", "refused", "reported", "retry_after"]
