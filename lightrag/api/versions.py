"""Routes of the versions of a corpus, and of the pins that keep them."""

# Annotations are evaluated here: FastAPI reads them, and the tenant dependency is a local name.
import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query

from lightrag.api.version_schemas import CommitInfo, CommitPage, PinBody, PinInfo, PinList
from lightrag.errors import NotFoundError
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.commits import Commit
from lightrag.storage.objects import ObjectStore
from lightrag.storage.transfer import parallel
from lightrag.types import CorpusId

LARGEST_PAGE: Final = 200
"""Each version costs one read of storage."""
PAGE: Final = 50

Cursor = Annotated[str | None, Query(pattern="^[0-9]{1,20}$")]


def version_routes(store: ObjectStore, Tenant: Any, *, max_pins: int | None = None) -> APIRouter:
    """Build the routes.

    Args:
        store: holds the corpora.
        Tenant: annotation that resolves to the request's tenant.
        max_pins: pins that a corpus may have.
    """
    routes = APIRouter(prefix="/v1/corpora", tags=["versions"])

    @routes.get("/{corpus}/versions")
    async def versions(
        corpus: str, tenant: Tenant, cursor: Cursor = None, limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = PAGE
    ) -> CommitPage:
        """List the versions that can be read, newest first."""
        return await asyncio.to_thread(_page, CorpusLog(store, CorpusId(tenant, corpus)), cursor, limit)

    @routes.get("/{corpus}/pins")
    async def pins(corpus: str, tenant: Tenant) -> PinList:
        """List the pins."""
        return await asyncio.to_thread(_pins, CorpusLog(store, CorpusId(tenant, corpus)))

    @routes.put("/{corpus}/pins/{name}")
    async def pin(corpus: str, name: str, body: PinBody, tenant: Tenant) -> PinInfo:
        """Keep a version under a name; a name that keeps another one moves."""
        await asyncio.to_thread(CorpusLog(store, CorpusId(tenant, corpus)).pin, body.version, name, limit=max_pins)
        return PinInfo(name=name, version=body.version)

    @routes.delete("/{corpus}/pins/{name}", status_code=204)
    async def unpin(corpus: str, name: str, tenant: Tenant) -> None:
        """Remove a pin; a job may then remove the version that it kept."""
        if not await asyncio.to_thread(CorpusLog(store, CorpusId(tenant, corpus)).unpin, name):
            raise NotFoundError(f"corpus {corpus!r} has no pin {name!r}", subject=name)

    return routes


def _page(log: CorpusLog, cursor: str | None, limit: int) -> CommitPage:
    listed = log.versions()
    if not listed:
        raise _absent(log)
    names: dict[int, list[str]] = {}
    for name, version in sorted(log.pins().items()):
        names.setdefault(version, []).append(name)
    rest = [version for version in reversed(listed) if cursor is None or version < int(cursor)]
    found = [commit for commit in parallel(lambda version: _read(log, version), rest[:limit]) if commit]
    return CommitPage(
        versions=[CommitInfo.of(commit, names.get(commit.version, [])) for commit in found],
        next=str(rest[limit - 1]) if len(rest) > limit else None,
    )


def _read(log: CorpusLog, version: int) -> Commit | None:
    try:
        return log.read(version)
    except NotFoundError:  # removed since it was listed
        return None


def _pins(log: CorpusLog) -> PinList:
    if log.newest_version() is None:
        raise _absent(log)
    return PinList(pins=[PinInfo(name=name, version=version) for name, version in sorted(log.pins().items())])


def _absent(log: CorpusLog) -> NotFoundError:
    return NotFoundError(f"there is no corpus {log.corpus.corpus!r}", subject=str(log.corpus))


__all__ = ["version_routes"]
