"""Versions of corpora and their pins through a running service: the ``versions`` of a client."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from lightrag.api.version_schemas import CommitInfo, CommitPage, PinInfo, PinList
from lightrag.client_blocking import Face, blocking, iterating
from lightrag.client_transport import Channel, route
from lightrag.types import check_name


class AsyncVersions:
    """Versions of the corpora of one tenant. Every method raises the branch that the service reports.

    Example::

        async with AsyncClient("http://127.0.0.1:8700") as client:
            newest = (await client.corpus("contracts")).version
            await client.versions.pin("contracts", "audited", newest)
            async for version in client.versions.all("contracts"):
                print(version.version, version.committed_at, version.pins)
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def page(self, corpus: str, *, cursor: str | None = None, limit: int = 50) -> CommitPage:
        """Some versions of a corpus, newest first; :meth:`all` reads all of them."""
        asked: dict[str, str | int] = {"limit": limit}
        asked |= {} if cursor is None else {"cursor": cursor}
        sent = await self._channel.send("GET", route("corpora", corpus, "versions"), params=asked)
        return CommitPage.model_validate_json(sent)

    async def all(self, corpus: str) -> AsyncGenerator[CommitInfo, None]:
        """All versions of a corpus that can be read, newest first, page by page."""
        page = await self.page(corpus)
        while True:
            for version in page.versions:
                yield version
            if page.next is None:
                return
            page = await self.page(corpus, cursor=page.next)

    async def pins(self, corpus: str) -> list[PinInfo]:
        """All pins of a corpus, in order of name."""
        sent = await self._channel.send("GET", route("corpora", corpus, "pins"))
        return PinList.model_validate_json(sent).pins

    async def pin(self, corpus: str, name: str, version: int) -> PinInfo:
        """Keep a version, under a name that moves if it is already used, until :meth:`unpin`."""
        sent = await self._channel.send("PUT", _place(corpus, name), json={"version": version})
        return PinInfo.model_validate_json(sent)

    async def unpin(self, corpus: str, name: str) -> None:
        """Remove a pin; the next job may remove the version that it kept."""
        await self._channel.send("DELETE", _place(corpus, name))


class Versions(Face[AsyncVersions]):
    """The blocking face of :class:`AsyncVersions`, with the same methods."""

    page = blocking(AsyncVersions.page)
    all = iterating(AsyncVersions.all)
    pins = blocking(AsyncVersions.pins)
    pin = blocking(AsyncVersions.pin)
    unpin = blocking(AsyncVersions.unpin)


def _place(corpus: str, name: str) -> str:
    # A name with a slash would reach no route, and the service could not say why.
    return route("corpora", corpus, "pins", check_name(name, "pin"))


__all__ = ["AsyncVersions", "Versions"]
