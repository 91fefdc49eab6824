"""What obstore raises, put into our words in one place.

Messages of object stores hold request URIs, and those of Azure hold the signature that grants access. Only what is
known to be harmless is taken over from them (an error code, a status, a system error), never the text as a whole, and
the original error is not chained.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import obstore.exceptions as faults

from lightrag.errors import BackendError, ConflictError, LightRAGError, NotFoundError, UsageError

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
_SYSTEM = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")

_NO_BUCKET = re.compile("NoSuchBucket|ContainerNotFound|specified bucket does not exist|ContainerBeingDeleted")
_NO_CREDENTIALS = re.compile(
    r"169\.254\.169\.254|latest/(api/token|meta-data)|metadata\.google|computeMetadata|identity/oauth2|MissingAccount"
)
_UNREACHABLE = re.compile("error sending request|kind: Connect|TimedOut|timed out|connection|dns error")
_BAD_RANGE = re.compile("Requested range was invalid|StartTooLarge|<Code>InvalidRange|Invalid range requested")
_BAD_NAME = re.compile("Filenames containing trailing|Could not parse path|os error 36")
_WRONG_CREDENTIALS = frozenset(
    {
        "AccessDenied",
        "AuthenticationFailed",
        "AuthorizationFailure",
        "AuthorizationPermissionMismatch",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "SignatureDoesNotMatch",
    }
)
_LATER = frozenset({408, 409, 429})
"""Answers below 500 that another try may change."""
_SYSTEM_ERRORS = {
    1: ("operation not permitted", False),
    5: ("the disk reports an input/output error", True),
    13: ("permission denied: check who owns the folder", False),
    20: ("a parent of the path is an object itself", False),
    21: ("the path is a folder of other objects", False),
    24: ("too many open files: raise `ulimit -n`", True),
    27: ("the object is larger than this system allows", False),
    28: ("the disk is full: free space, run `vacuum`, or point storage.url elsewhere", False),
    30: ("the file system is read-only", False),
    122: ("the disk quota is used up: free space or raise the quota", False),
}
"""By number: what to say, and whether the same call may succeed later."""


class Source(Protocol):
    """What is being sent, which can fail on its own account."""

    failure: BaseException | None


@contextmanager
def translated(url: str, path: str, source: Source | None = None) -> Iterator[None]:
    """Raise errors of our own tree for whatever the client raises inside; those of ``source`` pass unchanged."""
    try:
        yield
    except (faults.BaseError, OSError, ValueError) as error:
        if source is not None and source.failure is not None:
            raise source.failure from None
        raise _ours(url, path, error) from None


def _ours(url: str, path: str, error: Exception) -> LightRAGError:
    text = str(error)
    if _NO_BUCKET.search(text):
        return _failed(url, path, f"its bucket or container does not exist: create it or correct {url!r}")
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"there is no object {path!r} in {url}", subject=path)
    if isinstance(error, faults.AlreadyExistsError):
        return ConflictError(f"object {path!r} in {url} exists already", subject=path)
    if _BAD_RANGE.search(text):
        return UsageError(f"the range does not lie inside object {path!r} in {url}", subject=path)
    if isinstance(error, ValueError) or _BAD_NAME.search(text):
        return UsageError(f"{path!r} is not a path that {url} can hold: {_head(text)}", subject=path)
    return _remote_failure(url, path, text) or _local_failure(url, path, text)


def _remote_failure(url: str, path: str, text: str) -> BackendError | None:
    found = _STATUS.search(text)
    status = int(found[1]) if found else None
    code = next(iter(_CODE.findall(text)), "")
    if _NO_CREDENTIALS.search(text):
        return _failed(url, path, "no credentials were found: set the cloud's environment variables")
    if code in _WRONG_CREDENTIALS or status in (401, 403):
        return _failed(url, path, f"access was refused ({code or status}): check the credentials and their rights")
    if status is not None:
        return _failed(url, path, f"it answered {status} {code}".rstrip(), retryable=status >= 500 or status in _LATER)
    if _UNREACHABLE.search(text):
        return _failed(url, path, "it cannot be reached or does not answer", retryable=True)
    return None


def _local_failure(url: str, path: str, text: str) -> BackendError:
    found = _SYSTEM.search(text)
    number = int(found[1] or found[2]) if found else 0
    what, retryable = _SYSTEM_ERRORS.get(number, (f"system error {number}" if number else _head(text), False))
    return _failed(url, path, what, retryable=retryable)


def _failed(url: str, path: str, what: str, *, retryable: bool = False) -> BackendError:
    at = f" at {path!r}" if path else ""
    return BackendError(f"object store {url} failed{at}: {what}", subject=path or url, retryable=retryable)


def _head(text: str) -> str:
    """The beginning of a message, up to the first thing that could be a URI."""
    return text.split("\n", 1)[0].split("http", 1)[0][:200].strip()


__all__ = ["translated"]
