"""From the SDK's exceptions to ours: what went wrong, whether to try again, and what to do. Keys never appear."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Final

from lightrag.errors import BackendError, LightRAGError, LimitError

if TYPE_CHECKING:
    from openai import OpenAIError

    from lightrag.models.remote.providers import Endpoint

LONGEST_RETRY_AFTER: Final = 120.0
"""Seconds; a server that asks for more is not waited for."""

_TOO_LONG = re.compile(r"context.{0,20}(length|window|size)|maximum.{0,40}tokens|too many tokens|too long", re.I)
_KEY = re.compile(r"\b(sk|key|Bearer)[-_ ][\w.-]{6,}")
_CURES: Final = {
    401: "the key was refused; check api_key or the environment variable {variable}",
    403: "this key may not do that; check the account's rights",
    404: "there is no such model or address; check model and base_url",
}


def is_passing(error: OpenAIError) -> bool:
    """Whether the same request may succeed a little later."""
    import openai

    if isinstance(error, openai.APIConnectionError):
        return not _certificate_refused(error)
    if isinstance(error, openai.APIStatusError):
        if error.code == "insufficient_quota" or (retry_after(error) or 0) > LONGEST_RETRY_AFTER:
            return False
        return error.status_code in {408, 409, 429} or error.status_code >= 500
    return False


def retry_after(error: OpenAIError) -> float | None:
    """Seconds that the server asks to wait for."""
    import openai

    if not isinstance(error, openai.APIStatusError):
        return None
    for header, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = error.response.headers.get(header, "")
        if re.fullmatch(r"\d+(\.\d+)?", value):
            return float(value) * unit
    return None


def translated(error: OpenAIError, endpoint: Endpoint, model: str) -> LightRAGError:
    """Say what a failed call to ``model`` means."""
    import openai

    where = f"model {model!r} at {endpoint.shown_url}"
    if isinstance(error, openai.APITimeoutError):
        return BackendError(
            f"{where} did not answer within {endpoint.timeout_seconds:g} s; raise timeout_seconds or try later",
            subject=model,
            retryable=True,
        )
    if isinstance(error, openai.APIConnectionError):
        return _unreachable(error, where, model)
    if not isinstance(error, openai.APIStatusError):
        return BackendError(f"{where} answered something unreadable: {_redacted(error, endpoint)}", subject=model)
    message = _redacted(error, endpoint)
    if error.status_code in {400, 413, 422} and (error.code == "context_length_exceeded" or _TOO_LONG.search(message)):
        return LimitError(
            f"the prompt does not fit {where}: {message}; shorten it, lower max_tokens, or set context_tokens",
            subject=model,
        )
    cure = _CURES.get(error.status_code, "").format(variable=endpoint.provider.key_variable or "of its key")
    if error.code == "insufficient_quota":
        cure = "the account has no credit left"
    return BackendError(
        f"{where} failed with status {error.status_code}: {message}{'; ' if cure else ''}{cure}",
        subject=model,
        retryable=is_passing(error) or (error.status_code == 429 and error.code != "insufficient_quota"),
    )


def _unreachable(error: Exception, where: str, model: str) -> BackendError:
    if _certificate_refused(error):
        return BackendError(
            f"the certificate of {where} was refused; name a private authority in SSL_CERT_FILE", subject=model
        )
    return BackendError(
        f"{where} cannot be reached ({type(error.__cause__ or error).__name__}); check base_url and whether the "
        "server runs",
        subject=model,
        retryable=True,
    )


def _certificate_refused(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _redacted(error: Exception, endpoint: Endpoint) -> str:
    message = str(error)
    if endpoint.api_key:
        message = message.replace(endpoint.api_key, "***")
    return _KEY.sub("***", message)[:500]


__all__ = ["LONGEST_RETRY_AFTER", "is_passing", "retry_after", "translated"]
