"""Documents of corpora through a running service: the ``documents`` of a client."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from lightrag.api.job_schemas import DocumentInfo, DocumentPage, JobInfo
from lightrag.client_blocking import Face, blocking, iterating
from lightrag.client_transport import Channel, route
from lightrag.errors import UsageError

FilePath = str | os.PathLike[str]
Files = FilePath | Iterable[FilePath] | Mapping[str, bytes]


class AsyncDocuments:
    """Documents of the corpora of one tenant. Every method raises the branch that the service reports.

    Example::

        async with AsyncClient("http://127.0.0.1:8700") as client:
            job = await client.documents.upload(["lease.pdf", "annex.docx"], corpus="contracts")
            await client.jobs.wait(job)
            async for document in client.documents.all(corpus="contracts"):
                print(document.source, document.chunks)
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def upload(self, files: Files, *, corpus: str) -> JobInfo:
        """Add files to a corpus: a path, several, or bytes by file name. A document of the same name is replaced.

        Returns the job that reads them; :meth:`AsyncJobs.wait` waits for it. Above 8 MiB an upload is not repeated
        after a lost answer: it would be a second job, which finds nothing new.

        Raises:
            UsageError: a file cannot be opened.
        """
        with ExitStack() as opened:
            parts = await asyncio.to_thread(_opened, files, opened)
            path = route("corpora", corpus, "documents")
            return JobInfo.model_validate_json(await self._channel.send("POST", path, files=parts))

    async def page(
        self, *, corpus: str, version: int | None = None, cursor: str | None = None, limit: int = 100
    ) -> DocumentPage:
        """Part of the documents of a corpus, in order of their ids; :meth:`all` reads all of them.

        Pages of one version have no gaps: name the version of the first page for the others.
        """
        asked: dict[str, str | int] = {"limit": limit}
        asked |= {} if version is None else {"version": version}
        asked |= {} if cursor is None else {"cursor": cursor}
        sent = await self._channel.send("GET", route("corpora", corpus, "documents"), params=asked)
        return DocumentPage.model_validate_json(sent)

    async def all(self, *, corpus: str, version: int | None = None) -> AsyncGenerator[DocumentInfo, None]:
        """All documents of one version of a corpus, the newest where left out, page by page."""
        page = await self.page(corpus=corpus, version=version, limit=1000)
        while True:
            for document in page.documents:
                yield document
            if page.next is None:
                return
            page = await self.page(corpus=corpus, version=page.version, cursor=page.next, limit=1000)

    async def delete(self, document_id: str, *, corpus: str) -> JobInfo:
        """Take a document out of a corpus; returns the job that makes the version without it."""
        sent = await self._channel.send("DELETE", route("corpora", corpus, "documents", document_id))
        return JobInfo.model_validate_json(sent)


class Documents(Face[AsyncDocuments]):
    """The blocking face of :class:`AsyncDocuments`, with the same methods."""

    upload = blocking(AsyncDocuments.upload)
    page = blocking(AsyncDocuments.page)
    all = iterating(AsyncDocuments.all)
    delete = blocking(AsyncDocuments.delete)


def _opened(files: Files, stack: ExitStack) -> list[tuple[str, tuple[str, bytes | BinaryIO]]]:
    if isinstance(files, Mapping):
        return [("files", named) for named in files.items()]
    paths = [files] if isinstance(files, str | os.PathLike) else files
    return [("files", (Path(path).name, stack.enter_context(_open(Path(path))))) for path in paths]


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be uploaded: {error.strerror}", subject=str(path)) from error


__all__ = ["AsyncDocuments", "Documents"]
