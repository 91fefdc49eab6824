"""Every exception the library raises on purpose, as one tree.

It does not know about HTTP or exit codes: the faces (``api``, ``cli``) map the branches to those.

    LightRAGError
    ├── UsageError              you called it wrongly: the message says what to change
    │   └── ConfigurationError  settings that are unknown, contradictory or impossible here
    ├── DataError               the data is at fault
    │   ├── DocumentError       one document cannot be read (unsupported, encrypted, damaged, empty, too large)
    │   ├── ArtifactError       a stored artifact is damaged or does not belong to this model
    │   └── MessageError        a conversation message cannot be accepted
    ├── AuthenticationError     no valid API key
    ├── PermissionDenied        a valid key that may not do this
    ├── NotFoundError           a corpus, document, version, entry or job that does not exist
    ├── ConflictError           somebody else changed the same thing first
    ├── BackendError            a model, store or service failed; ``retryable`` says whether to try again
    ├── DeadlineExceeded        the time allowed for a request or a stage ran out
    └── LimitError              a limit was reached
        └── QuotaExceeded       a tenant's quota; ``retry_after`` says when to come back
"""

from __future__ import annotations


class LightRAGError(Exception):
    """Base of every deliberate error.

    Catch this to handle everything the library can say about a request::

        try:
            answer = await rag.ask(request)
        except LightRAGError as error:
            log.warning("%s (%s)", error, error.subject)
    """

    def __init__(self, message: str, *, subject: str | None = None) -> None:
        super().__init__(message)
        self.subject = subject
        """What the error is about: a path, a document id, ``tenant/corpus@version``, an option."""

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process walls in Ray; the default protocol would lose the keyword-only attributes.
        return (_rebuild, (type(self), str(self), dict(vars(self))))


class UsageError(LightRAGError):
    """The caller asked for something that makes no sense; the message names the argument and the cure."""


class ConfigurationError(UsageError):
    """Settings are unknown, contradict each other, or need something this machine does not have."""


class DataError(LightRAGError):
    """The data, not the caller and not the service, is at fault."""


class DocumentError(DataError):
    """A document cannot be turned into text. ``subject`` names the file, ``reason`` is a stable code."""

    def __init__(self, message: str, *, subject: str | None = None, reason: str = "unreadable") -> None:
        super().__init__(message, subject=subject)
        self.reason = reason
        """One of ``unsupported encrypted damaged empty no_text too_large expands_too_much undecodable unreadable``."""


class ArtifactError(DataError):
    """A stored artifact is damaged, incomplete, or was made by another model or format version."""


class MessageError(DataError):
    """A conversation message cannot be accepted; nothing of the call was stored."""


class AuthenticationError(LightRAGError):
    """A request has no valid key. The message is the same whatever is wrong with it."""


class PermissionDenied(LightRAGError):
    """A valid key may not do this; ``subject`` names the scope that is missing."""


class NotFoundError(LightRAGError):
    """A named corpus, document, version, memory entry or job does not exist for this tenant."""


class ConflictError(LightRAGError):
    """Another writer changed the same thing first; read again and retry."""

    def __init__(self, message: str, *, subject: str | None = None, winner: object = None) -> None:
        super().__init__(message, subject=subject)
        self.winner = winner
        """What is there now, where it is known: for a corpus the ``Commit`` that came first."""


class BackendError(LightRAGError):
    """A model, store or remote service failed."""

    def __init__(self, message: str, *, subject: str | None = None, retryable: bool = False) -> None:
        super().__init__(message, subject=subject)
        self.retryable = retryable
        """Whether the same call may succeed later."""


class DeadlineExceeded(LightRAGError):
    """The time allowed for a request or for one of its stages ran out."""


class LimitError(LightRAGError):
    """A limit on size, number or rate was reached."""


class QuotaExceeded(LimitError):
    """A tenant used up a quota."""

    def __init__(self, message: str, *, subject: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, subject=subject)
        self.retry_after = retry_after
        """Seconds after which the same call may succeed; ``None`` where waiting does not help."""


class LightRAGWarning(UserWarning):
    """Something inferred was overridden or degraded; explicit settings fail instead of warning."""


def _rebuild(kind: type[LightRAGError], message: str, attributes: dict[str, object]) -> LightRAGError:
    error = kind(message)
    vars(error).update(attributes)
    return error


__all__ = [
    "ArtifactError",
    "AuthenticationError",
    "BackendError",
    "ConfigurationError",
    "ConflictError",
    "DataError",
    "DeadlineExceeded",
    "DocumentError",
    "LightRAGError",
    "LightRAGWarning",
    "LimitError",
    "MessageError",
    "NotFoundError",
    "PermissionDenied",
    "QuotaExceeded",
    "UsageError",
]
