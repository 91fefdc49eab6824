"""What a version of a corpus is made of: the commit, its files, and their form as JSON.

Values only; nothing here reads or writes. Everything that comes from storage is validated strictly, because a commit
names paths that will be read and deleted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import pydantic
from blake3 import blake3
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from lightrag.errors import ArtifactError
from lightrag.types import CorpusVersion

FORMAT = 1

Role = Literal["documents", "chunks", "gists", "errors", "index", "memory", "latents", "report"]
"""What a file is for. It is also the folder the file lies in."""

ROLES: tuple[Role, ...] = get_args(Role)

_PATH = r"^[A-Za-z0-9][A-Za-z0-9._=-]*(/[A-Za-z0-9][A-Za-z0-9._=-]*)*$"
Path = Annotated[str, Field(pattern=_PATH, max_length=512)]
"""Plain segments only, so that no commit can name anything outside its corpus."""

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]


class Stored(BaseModel):
    """Base of everything that is stored as JSON: frozen, strict, and unknown names are refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)


class FileEntry(Stored):
    """One immutable data file of a corpus."""

    role: Role
    name: Path
    """As its writer called it, for example ``7f3a/faiss.index``; unique paths are derived from it."""
    path: Path
    """Where it lies below the corpus, unique for every write."""
    size: Count
    """Bytes."""
    blake3: Digest
    """Of the content; for a file of several parts, of the concatenated digests of the parts (``{path}.parts``)."""
    part_bytes: Annotated[int, Field(gt=0)]
    """Every part but the last has this length and its own digest."""
    rows: Count | None = None
    version: Count = 0
    """The version that added the file; 0 until then."""

    @property
    def parts(self) -> int:
        """Number of separately hashed parts, at least one."""
        return max(1, -(-self.size // self.part_bytes))


class ManifestRef(Stored):
    """Points from a commit or a manifest to a manifest with more file entries."""

    prefix: Annotated[str, Field(pattern="^[0-9a-f]+$", max_length=64)]
    """Leading hexadecimal digits of the blake3 of the path of every file in it."""
    path: Path
    size: Count
    blake3: Digest
    files: Count
    bytes: Count
    rows: Count


class FileSet(Stored):
    """The files of one role: listed here, or, where they are many, in manifests."""

    files: Count = 0
    """How many, manifests included."""
    bytes: Count = 0
    rows: Count = 0
    entries: tuple[FileEntry, ...] = ()
    manifests: tuple[ManifestRef, ...] = ()


class Commit(Stored):
    """One version of a corpus, complete and immutable."""

    tenant: str
    corpus: str
    version: Annotated[int, Field(ge=1)]
    parent: Count
    """The version it was made from; 0 for none."""
    commit_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    """Random, so that a writer can tell its own commit from another one's with equal content."""
    created: AwareDatetime
    """By the clock of the writer, in UTC."""
    job_id: str = ""
    message: str = ""
    files: dict[Role, FileSet] = {}
    fingerprints: dict[str, str] = {}
    """What made the files: embedder, tokenizer, gist and memory models."""
    counts: dict[str, int] = {}
    """For people and reports: documents, chunks, tokens, errors."""
    settings: dict[str, JsonValue] = {}
    """Settings that the next version has to be compared with."""

    @property
    def id(self) -> CorpusVersion:
        """Tenant, corpus and version."""
        return CorpusVersion(self.tenant, self.corpus, self.version)

    @property
    def bytes(self) -> int:
        """Stored bytes that this version refers to."""
        return sum(files.bytes for files in self.files.values())

    def file_set(self, role: Role) -> FileSet:
        """Files of one role, possibly none. Read them with :meth:`CorpusLog.files`."""
        return self.files.get(role, FileSet())


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit does to the version before it. ``None`` keeps what was there."""

    add: Sequence[FileEntry] = ()
    remove: Sequence[str] = ()
    """Paths of files that the new version no longer has."""
    fingerprints: Mapping[str, str] | None = None
    counts: Mapping[str, int] | None = None
    settings: Mapping[str, JsonValue] | None = None
    job_id: str = ""
    message: str = ""


class _Envelope(Stored):
    format: int
    checksum: Digest
    commit: dict[str, JsonValue]


def encode_commit(commit: Commit) -> bytes:
    """Write a commit as JSON with a checksum over it."""
    body = commit.model_dump(mode="json", exclude_defaults=True)
    envelope = {"format": FORMAT, "checksum": _checksum(body), "commit": body}
    return json.dumps(envelope, ensure_ascii=False, allow_nan=False, indent=1).encode()


def decode_commit(data: bytes, expected: CorpusVersion) -> Commit:
    """Read a commit, believing nothing.

    Raises:
        ArtifactError: it is damaged, of a later format, or belongs to another corpus or version.
    """
    try:
        envelope = _Envelope.model_validate_json(data)
        if envelope.format != FORMAT:
            problem = f"has format {envelope.format}, this release reads {FORMAT}: use a later release"
        elif envelope.checksum != _checksum(envelope.commit):
            problem = "does not match its own checksum"
        else:
            commit = Commit.model_validate_json(json.dumps(envelope.commit))
            if commit.id == expected:
                return commit
            problem = f"belongs to {commit.id}"
    except pydantic.ValidationError as error:
        problem = f"is not a commit: {describe(error)}"
    raise ArtifactError(f"the commit file of {expected} {problem}", subject=str(expected))


def describe(error: pydantic.ValidationError) -> str:
    """The first problem of a validation in one line, without the value, which may be long."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]


def _checksum(body: dict[str, Any]) -> str:
    canonical = json.dumps(body, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return blake3(canonical.encode()).hexdigest()


__all__ = [
    "FORMAT",
    "ROLES",
    "Change",
    "Commit",
    "FileEntry",
    "FileSet",
    "ManifestRef",
    "Role",
    "Stored",
    "decode_commit",
    "describe",
    "encode_commit",
]
