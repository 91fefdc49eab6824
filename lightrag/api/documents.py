"""Routes of the documents of a corpus: upload, list, delete."""

# Annotations are evaluated here: FastAPI reads them, and the tenant dependency is a local name.
import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, BinaryIO, Final

from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import UploadFile
from starlette.types import Message

from lightrag.api.job_schemas import DocumentInfo, DocumentPage, JobInfo, Removed
from lightrag.api.jobs import JobAccess, location_of
from lightrag.api.schemas import LARGEST_VERSION
from lightrag.errors import LimitError, NotFoundError, UsageError
from lightrag.jobs.uploads import MOST_FILES, submit_uploads
from lightrag.storage.artifacts import CorpusLog
from lightrag.types import CorpusId

LARGEST_PAGE: Final = 1000
PAGE: Final = 100
_PART: Final = 1024 * 1024
_COLUMNS: Final = tuple(DocumentInfo.model_fields)
_FORM: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}


def document_routes(access: JobAccess, Tenant: Any) -> APIRouter:
    """Build the routes.

    Args:
        access: to the corpora, and to the jobs that take uploads.
        Tenant: annotation that resolves to the request's tenant.
    """
    jobs, store, settings = access
    routes = APIRouter(prefix="/v1/corpora", tags=["documents"])

    @routes.post("/{corpus}/documents", status_code=202, openapi_extra=_FORM)
    async def upload(corpus: str, tenant: Tenant, request: Request, response: Response) -> JobInfo:
        """Add files to a corpus; the answer is the job that reads them. A file of the same name is replaced."""
        place = CorpusId(tenant, corpus)
        async with _bounded(request, settings.jobs.upload_bytes).form(max_files=MOST_FILES, max_fields=10) as form:
            files = _files([value for _, value in form.multi_items()])
            job = await asyncio.to_thread(submit_uploads, jobs, settings, place, files)
        response.headers.update(location_of(job.job_id))
        return JobInfo.of(job)

    @routes.get("/{corpus}/documents")
    async def listing(
        corpus: str,
        tenant: Tenant,
        cursor: str | None = None,
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = PAGE,
        version: Annotated[int | None, Query(ge=1, le=LARGEST_VERSION)] = None,
    ) -> DocumentPage:
        """List documents. Pages of one version have no gaps: name the version of the first page for the others."""
        return await asyncio.to_thread(_page, CorpusLog(store, CorpusId(tenant, corpus)), version, cursor, limit)

    @routes.delete("/{corpus}/documents/{document_id}", status_code=202)
    async def remove(corpus: str, document_id: str, tenant: Tenant, response: Response) -> JobInfo:
        """Take a document out of a corpus; the answer is the job that makes the version without it."""
        place = CorpusId(tenant, corpus)
        await asyncio.to_thread(_require_document, CorpusLog(store, place), document_id)
        job = await asyncio.to_thread(jobs.remove, place, [document_id])
        response.headers.update(location_of(job.job_id))
        return JobInfo.of(job)

    @routes.delete("/{corpus}")
    async def delete(corpus: str, tenant: Tenant) -> Removed:
        """Delete a corpus for good: every version, file and object of it."""
        log = CorpusLog(store, CorpusId(tenant, corpus))
        await asyncio.to_thread(_newest, log)
        report = await asyncio.to_thread(log.delete)
        return Removed(versions=report.versions, objects=report.objects, bytes=report.bytes)

    return routes


def _page(log: CorpusLog, version: int | None, cursor: str | None, limit: int, *, only: str = "") -> DocumentPage:
    import pyarrow.compute as pc

    from lightrag.storage.liveness import live_documents

    commit = log.read(version) if version else log.read(_newest(log))
    found = live_documents(log, commit, _COLUMNS)
    if cursor is not None:
        found = found.filter(pc.greater(found["document_id"], cursor))
    if only:
        found = found.filter(pc.equal(found["document_id"], only))
    rows = found.slice(0, limit).to_pylist()
    following = rows[-1]["document_id"] if found.num_rows > limit else None
    return DocumentPage(version=commit.version, documents=[DocumentInfo(**row) for row in rows], next=following)


def _require_document(log: CorpusLog, document_id: str) -> None:
    if not _page(log, None, None, 1, only=document_id).documents:
        raise NotFoundError(f"corpus {log.corpus.corpus!r} has no document {document_id!r}", subject=document_id)


def _newest(log: CorpusLog) -> int:
    newest = log.latest()
    if newest is None:
        raise NotFoundError(f"there is no corpus {log.corpus.corpus!r}", subject=str(log.corpus))
    return newest.version


def _bounded(request: Request, limit: int) -> Request:
    """The same request, refused as soon as it is larger than the limit: by what it says, or by what comes.

    Raises:
        LimitError: it is.
    """
    error = LimitError(f"an upload has at most {limit:,} bytes: send fewer files at a time", subject="upload")
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > limit:
        raise error
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise error
        return message

    return Request(request.scope, receive)


def _files(values: Iterable[UploadFile | str]) -> dict[str, Callable[[], Iterable[bytes]]]:
    files: dict[str, Callable[[], Iterable[bytes]]] = {}
    for value in values:
        if isinstance(value, str):
            raise UsageError("an upload holds files alone, as multipart/form-data", subject="files")
        name = value.filename or ""
        if name in files:
            raise UsageError(f"two uploaded files are called {name!r}; rename one", subject=name)
        files[name] = _reader(value.file)
    return files


def _reader(file: BinaryIO) -> Callable[[], Iterable[bytes]]:
    def parts() -> Iterator[bytes]:
        while part := file.read(_PART):
            yield part

    return parts


__all__ = ["document_routes"]
