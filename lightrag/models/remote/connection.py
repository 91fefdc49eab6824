"""Calls to one service: shared limit, retries, and adapting to parameters that a model does not take."""

from __future__ import annotations

import asyncio
import logging
import random
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lightrag.errors import LightRAGWarning, UsageError
from lightrag.models.remote.faults import is_passing, retry_after, translated
from lightrag.models.remote.limiter import ConcurrencyLimit
from lightrag.models.remote.providers import Endpoint

if TYPE_CHECKING:
    from openai import AsyncOpenAI, BadRequestError, OpenAIError

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 8.0

_RENAMED: Final = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_DISPENSABLE: Final = frozenset({"temperature", "top_p", "seed", "stream_options"})


class Connection:
    """A service and what was learned about it; the only place that talks to the SDK.

    Args:
        endpoint: whom to call.
        model: as the service names it.
        max_retries: further attempts after passing faults, with exponential back-off.
        max_concurrency: requests under way at once, at most.
    """

    def __init__(self, endpoint: Endpoint, model: str, *, max_retries: int, max_concurrency: int) -> None:
        self.endpoint = endpoint
        self.model = model
        self._max_retries = max_retries
        self._max_concurrency = max_concurrency
        # Sockets and conditions belong to the event loop they were made on.
        self._per_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[AsyncOpenAI, ConcurrencyLimit]] = (
            weakref.WeakKeyDictionary()
        )
        self._unsupported: set[str] = set()
        self._closed = False

    @asynccontextmanager
    async def call(
        self, send: Callable[[AsyncOpenAI, dict[str, Any]], Awaitable[T]], parameters: dict[str, Any]
    ) -> AsyncIterator[T]:
        """Send a request until it succeeds or fails for good; the place among concurrent calls is held meanwhile.

        Args:
            send: makes the request with the client and the parameters.
            parameters: of the request.

        Raises:
            BackendError: the service failed.
            LimitError: the request is too long for the model.
        """
        import openai

        client, limit = self._here()
        attempt = 0
        while True:
            async with limit.slot() as generation:
                try:
                    answer = await send(client, self._adapted(parameters))
                except openai.BadRequestError as error:
                    if not self._learned(error):
                        raise self._translated(error) from None
                    continue
                except openai.OpenAIError as error:
                    delay = self._delay(error, attempt)
                    if isinstance(error, openai.RateLimitError):
                        limit.shrink(generation, delay or 0.0)
                    if delay is None:
                        raise self._translated(error) from None
                else:
                    limit.grow()
                    yield answer
                    return
            attempt += 1
            logger.info("retrying %s in %.1f s, attempt %d", self.endpoint, delay, attempt + 1)
            await asyncio.sleep(delay)

    @asynccontextmanager
    async def explained(self) -> AsyncIterator[None]:
        """Translate faults that come after the answer began, while a stream is read."""
        import openai

        # The SDK moved from httpx to httpx2; while a stream is read, faults of the one it uses come through bare.
        transport = import_module(openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0])
        try:
            yield
        except openai.OpenAIError as error:
            raise self._translated(error) from None
        except transport.TimeoutException as error:
            raise self._translated(openai.APITimeoutError(error.request)) from None
        except transport.TransportError as error:
            raise self._translated(openai.APIConnectionError(request=error.request)) from None

    async def close(self) -> None:
        """Close the connections of this event loop; those of others went with their loops."""
        self._closed = True
        for client, _ in list(self._per_loop.values()):
            await client.close()
        self._per_loop.clear()

    def _here(self) -> tuple[AsyncOpenAI, ConcurrencyLimit]:
        if self._closed:
            raise UsageError(f"model {self.model!r} is closed; open a new one", subject=self.model)
        loop = asyncio.get_running_loop()
        if loop not in self._per_loop:
            self._per_loop[loop] = self.endpoint.client(), ConcurrencyLimit(self._max_concurrency)
        return self._per_loop[loop]

    def _delay(self, error: OpenAIError, attempt: int) -> float | None:
        """Seconds until the next attempt; ``None`` for no further one."""
        if attempt >= self._max_retries or not is_passing(error):
            return None
        backoff = min(LONGEST_DELAY, FIRST_DELAY * 2.0**attempt) * random.uniform(0.5, 1)  # noqa: S311  # no secret
        return max(backoff, retry_after(error) or 0.0)

    def _adapted(self, parameters: dict[str, Any]) -> dict[str, Any]:
        return {
            _RENAMED.get(name, name) if name in self._unsupported else name: value
            for name, value in parameters.items()
            if not (name in self._unsupported and name in _DISPENSABLE)
        }

    def _learned(self, error: BadRequestError) -> bool:
        """Remember a parameter that the model does not take; false where that is not what is wrong."""
        name = error.param or ""
        if error.code not in {"unsupported_parameter", "unsupported_value"} or name in self._unsupported:
            return False
        if name not in _RENAMED and name not in _DISPENSABLE:
            return False
        self._unsupported.add(name)
        if name in {"temperature", "top_p"}:
            warnings.warn(
                f"model {self.model!r} does not take {name}; its own default is used", LightRAGWarning, stacklevel=2
            )
        return True

    def _translated(self, error: OpenAIError) -> Exception:
        # Not chained: the SDK's exception holds the request, and with it the key.
        return translated(error, self.endpoint, self.model)


__all__ = ["Connection"]
