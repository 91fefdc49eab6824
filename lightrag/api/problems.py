"""Errors over HTTP, all in one shape: problem documents (RFC 9457), ``application/problem+json``."""

from __future__ import annotations

import json
import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from lightrag import errors

MEDIA_TYPE = "application/problem+json"

# The most particular class first; the first that matches decides. (status, type, title)
_STATUS: tuple[tuple[type[errors.LightRAGError], tuple[int, str, str]], ...] = (
    (errors.ConfigurationError, (500, "configuration", "The service is not configured for this")),
    (errors.UsageError, (422, "usage", "The request makes no sense")),
    (errors.DataError, (422, "data", "The data cannot be used")),
    (errors.AuthenticationError, (401, "authentication", "Who are you?")),
    (errors.PermissionDenied, (403, "permission", "This key may not do that")),
    (errors.NotFoundError, (404, "not-found", "No such thing")),
    (errors.ConflictError, (409, "conflict", "Somebody else was first")),
    (errors.DeadlineExceeded, (504, "deadline", "It took too long")),
    (errors.QuotaExceeded, (429, "quota", "A quota is used up")),
    (errors.LimitError, (413, "limit", "Too large")),
    (errors.BackendError, (502, "backend", "Something behind this service failed")),
)


def problem(error: errors.LightRAGError) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Describe an error as (status, problem document, headers)."""
    status, name, title = next(
        (rest for kind, rest in _STATUS if isinstance(error, kind)), (500, "internal", "Unexpected error")
    )
    headers: dict[str, str] = {}
    if isinstance(error, errors.BackendError) and error.retryable:
        status, headers = 503, {"Retry-After": "1"}
    if isinstance(error, errors.QuotaExceeded) and error.retry_after is not None:
        headers = {"Retry-After": str(math.ceil(error.retry_after))}
    if isinstance(error, errors.AuthenticationError):
        headers = {"WWW-Authenticate": "Bearer"}
    document = {"type": f"urn:lightrag:problem:{name}", "title": title, "status": status, "detail": str(error)}
    return status, document, headers


def install(app: FastAPI) -> None:
    """Answer every error of an app with a problem document."""

    @app.exception_handler(errors.LightRAGError)
    async def deliberate(_: Request, error: errors.LightRAGError) -> Response:
        status, document, headers = problem(error)
        return _respond(status, document, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        # The offending input is left out: it may be large, or hold a secret.
        problems = [{"where": [str(part) for part in item["loc"]], "what": str(item["msg"])} for item in error.errors()]
        detail = "; ".join(f"{'.'.join(item['where'])}: {item['what']}" for item in problems)
        document = {
            "type": "urn:lightrag:problem:usage",
            "title": "The request makes no sense",
            "status": 422,
            "detail": detail,
            "errors": problems,
        }
        return _respond(422, document, {})

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        document = {
            "type": "about:blank",
            "title": str(error.detail),
            "status": error.status_code,
            "detail": str(error.detail),
        }
        return _respond(error.status_code, document, dict(error.headers or {}))


def _respond(status: int, document: dict[str, Any], headers: dict[str, str]) -> Response:
    return Response(json.dumps(document, ensure_ascii=False), status, headers, MEDIA_TYPE)


__all__ = ["MEDIA_TYPE", "install", "problem"]
