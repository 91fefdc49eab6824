"""The blocking face of something asynchronous, made of its methods one by one, with the types that they have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")


class Face(Generic[A]):
    """Something asynchronous, and the loop that runs it. Not for use inside an event loop."""

    def __init__(self, behind: A, loop: asyncio.Runner) -> None:
        self._behind = behind
        self._loop = loop


def blocking(method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Face[A], P], T]:
    """The same method, which returns when it is done."""

    @wraps(method)
    def call(face: Face[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return face._loop.run(method(face._behind, *args, **kwargs))

    return call


def iterating(
    method: Callable[Concatenate[A, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Face[A], P], Generator[T, None, None]]:
    """The same method, whose values are waited for one by one; whoever leaves early ends it."""

    @wraps(method)
    def call(face: Face[A], /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        values = method(face._behind, *args, **kwargs)
        try:
            while True:
                try:
                    value = face._loop.run(_next(values))
                except StopAsyncIteration:
                    return
                yield value
        finally:
            face._loop.run(values.aclose())

    return call


async def _next(values: AsyncGenerator[T, None]) -> T:
    return await anext(values)


__all__ = ["Face", "blocking", "iterating"]
