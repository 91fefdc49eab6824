"""Files that arrive with a request, kept in the object store until their job has read them.

They lie below the tenant's own folder, so deleting a tenant deletes them too:
``{tenant}/uploads/{job}/{file name}``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from urllib.parse import urlsplit
from urllib.request import url2pathname

from lightrag.config import Settings
from lightrag.documents import SUFFIXES
from lightrag.errors import UsageError
from lightrag.ingestion.spec import IngestSpec, SourceSpec
from lightrag.ingestion.uploads import UPLOADS
from lightrag.jobs.service import JobService
from lightrag.jobs.store import new_job_id
from lightrag.jobs.types import Job
from lightrag.storage.objects import ObjectStore, open_object_store
from lightrag.types import CorpusId

MOST_FILES = 1000
"""Of one upload; more come as a folder or a prefix."""
_LONGEST_NAME = 200


def submit_uploads(
    jobs: JobService,
    settings: Settings,
    corpus: CorpusId,
    files: Mapping[str, Callable[[], Iterable[bytes]]],
    *,
    priority: int = 0,
) -> Job:
    """Store files, and queue the job that reads them. A file of a name that was uploaded before replaces that one.

    Args:
        jobs: takes the job.
        settings: say where the object store is.
        corpus: what to add them to.
        files: what reads the parts of each, by file name.
        priority: of the job.

    Raises:
        UsageError: there are none, or one has no name or one that says nothing about how to read it.
        BackendError: the store failed; nothing is queued.
    """
    if not 1 <= len(files) <= MOST_FILES:
        raise UsageError(f"an upload has between 1 and {MOST_FILES:,} files, not {len(files):,}", subject="files")
    for name in files:
        _require_name(name)
    job_id = new_job_id()
    folder = _folder(corpus.tenant, job_id)
    store = _store(settings)
    for name, parts in files.items():
        store.put_parts(f"{folder}/{name}", parts())
    store.sync([f"{folder}/{name}" for name in files])
    spec = IngestSpec(
        corpus=corpus.corpus,
        tenant=corpus.tenant,
        source=SourceSpec(location=_location(settings, folder), name=UPLOADS, options=_options(settings)),
        keep_missing=True,
    )
    return jobs.submit(spec, priority=priority, job_id=job_id)


def clear_upload(settings: Settings, job: Job) -> None:
    """Remove what was uploaded for a job that has read all of it. A failed one may be retried, and needs it."""
    if job.spec.get("source", {}).get("name") == UPLOADS:
        store = _store(settings)
        store.delete([info.path for info in store.list(_folder(job.tenant, job.job_id))])


def _require_name(name: str) -> None:
    if not name or name != PurePosixPath(name).name or "\\" in name or not name.isprintable() or name[0] == ".":
        raise UsageError(f"an uploaded file is called {name!r}: give it a plain file name", subject=name)
    if len(name) > _LONGEST_NAME:
        raise UsageError(f"the file name {name[:40]!r}… is longer than {_LONGEST_NAME} characters", subject=name)
    if PurePosixPath(name).suffix.lower() not in SUFFIXES:
        known = " ".join(sorted(SUFFIXES))
        raise UsageError(f"file {name!r} cannot be read: files that can end in {known}", subject=name)


def _folder(tenant: str, job_id: str) -> str:
    return f"{tenant}/uploads/{job_id}"


def _location(settings: Settings, folder: str) -> str:
    url = settings.storage_url.rstrip("/")
    if url.startswith("file:"):
        return f"{url2pathname(urlsplit(url).path)}/{folder}"
    return f"{url}/{folder}"


def _options(settings: Settings) -> dict[str, str]:
    return {} if settings.storage_url.startswith("file:") else settings.storage.options


def _store(settings: Settings) -> ObjectStore:
    return open_object_store(settings.storage_url, settings.storage.options)


__all__ = ["MOST_FILES", "clear_upload", "submit_uploads"]
