"""Where the objects of a corpus lie. Every path begins with the tenant, and nothing else in the package builds one."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from blake3 import blake3

from lightrag.storage.commits import Role
from lightrag.types import CorpusId, check_name

_COMMIT = re.compile(r"(\d{20})\.json\Z")


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one corpus in its object store."""

    corpus: CorpusId

    @property
    def root(self) -> str:
        """Folder of the whole corpus."""
        return f"{corpora_folder(self.corpus.tenant)}/{self.corpus.corpus}"

    @property
    def log(self) -> str:
        """Folder of the commits."""
        return f"{self.root}/log"

    @property
    def pins(self) -> str:
        """Folder of the pins, one small object each."""
        return f"{self.root}/pins"

    @property
    def holds(self) -> str:
        """Folder of the holds of running jobs."""
        return f"{self.root}/holds"

    @property
    def newest(self) -> str:
        """Names a version that was the newest not long ago; a hint, never the truth."""
        return f"{self.root}/newest.json"

    @property
    def tombstone(self) -> str:
        """Remembers, without a readable name, the last version of a deleted corpus.

        Versions name cached state (``tenant/corpus@version``), so a corpus made again under an old name has to go on
        counting where the old one stopped. The dot keeps it apart from tenants, whose names cannot begin with one.
        """
        return f".deleted/{blake3(str(self.corpus).encode()).hexdigest()}.json"

    def commit(self, version: int) -> str:
        """Path of a commit; zero-padded, so that paths sort as versions do."""
        return f"{self.log}/{version:020d}.json"

    def file(self, path: str) -> str:
        """Path in the store of what a commit calls ``path``."""
        return f"{self.root}/{path}"

    def pin(self, name: str) -> str:
        """Path of a named pin."""
        return f"{self.pins}/{check_name(name, 'pin')}.json"

    def hold(self, name: str) -> str:
        """Path of the hold of a job."""
        return f"{self.holds}/{check_name(name, 'job')}.json"


def corpora_folder(tenant: str) -> str:
    """Folder with one folder per corpus of a tenant."""
    return f"{check_name(tenant, 'tenant')}/corpora"


def parse_version(path: str) -> int | None:
    """The version whose commit lies at a path; ``None`` for anything that is not a commit."""
    found = _COMMIT.search(path)
    return int(found[1]) if found else None


def unique_path(role: Role, name: str) -> str:
    """A path that no other write ever gets: the role's folder, and a random token before the suffix of the name."""
    folder, slash, last = name.rpartition("/")
    stem, dot, suffix = last.partition(".")
    return f"{role}/{folder}{slash}{stem}.{secrets.token_hex(8)}{dot}{suffix}"


def manifest_path() -> str:
    """A path for a new manifest, below the corpus. Never reused, also for equal content.

    Equal manifests could share a path, but then a writer that finds one already there and a vacuum that is about to
    delete it could meet. Unchanged manifests are shared between versions by reference instead.
    """
    return f"manifests/{secrets.token_hex(16)}.json"


__all__ = ["Layout", "corpora_folder", "manifest_path", "parse_version", "unique_path"]
