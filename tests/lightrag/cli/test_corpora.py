"""Commands about corpora, versions and pins, against a service over a real log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lightrag.api.app import create_app
from lightrag.api.catalogue import StoredCatalogue
from lightrag.api.jobs import JobAccess
from lightrag.cli.app import app
from lightrag.config import load_settings
from lightrag.errors import LightRAGError, NotFoundError, UsageError
from lightrag.jobs.service import JobService
from lightrag.rag import QuestionPipeline, Stages
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.objects import open_object_store
from lightrag.types import CorpusId
from tests.lightrag.cli.test_app import serving
from tests.lightrag.test_rag import Generate, Retrieve


@pytest.fixture(autouse=True)
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CorpusLog]:
    """The service that the commands speak to, and its corpus of three versions."""
    settings = load_settings(None, home=tmp_path)
    store = open_object_store("memory://")
    log = CorpusLog(store, CorpusId("acme", "reports"))
    for documents in (1, 2, 3):
        log.commit(log.latest(), counts={"documents": documents, "error_count": 0})
    jobs = JobService(settings)
    catalogue = StoredCatalogue(store, refresh_seconds=0)
    pipeline = QuestionPipeline(Stages(Retrieve(), Generate()))
    with serving(create_app(pipeline, catalogue, tenant="acme", jobs=JobAccess(jobs, store, settings))) as url:
        monkeypatch.setenv("LRAG_URL", url)
        monkeypatch.setenv("COLUMNS", "200")
        yield log
    jobs.close()


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def told(*arguments: str) -> Any:
    return json.loads(shown(*arguments, "--json"))


def test_a_table_of_versions_has_their_counts_and_pins(service: CorpusLog) -> None:
    service.pin(2, "release")
    service.pin(2, "audit")
    lines = [line.split() for line in shown("versions", "reports").splitlines()]
    assert lines[0] == ["Versions", "of", "reports"]
    assert ["version", "documents", "committed", "pins"] in lines
    (second,) = [line for line in lines if line[:1] == ["2"]]
    assert (second[1], second[-2:]) == ("2", ["audit,", "release"])
    (corpus,) = [line for line in shown("corpora").splitlines() if line.startswith("reports")]
    assert corpus.split()[1:3] == ["3", "3"]


def test_versions_come_in_pages() -> None:
    first = told("versions", "reports", "--limit", "2")
    assert ([version["version"] for version in first["versions"]], first["next"]) == ([3, 2], "2")
    rest = told("versions", "reports", "--cursor", first["next"])
    assert ([version["version"] for version in rest["versions"]], rest["next"]) == ([1], None)
    assert "--cursor 2" in shown("versions", "reports", "--limit", "2")


def test_a_version_is_pinned_and_unpinned(service: CorpusLog) -> None:
    assert told("pin", "reports", "audit", "1") == {"name": "audit", "version": 1}
    assert "Pinned version 2 of reports as audit" in shown("pin", "reports", "audit", "2")
    assert service.pins() == {"audit": 2}
    assert told("unpin", "reports", "audit") == {"unpinned": "audit"}
    assert service.pins() == {}


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (("versions", "absent"), NotFoundError, "no corpus 'absent'"),
        (("versions", "reports", "--limit", "0"), UsageError, "limit"),
        (("pin", "reports", "audit", "4"), NotFoundError, "does not exist"),
        (("pin", "reports", "no name", "1"), UsageError, "not a valid name"),
        (("unpin", "reports", "audit"), NotFoundError, "no pin 'audit'"),
    ],
)
def test_misuse_is_explained(arguments: tuple[str, ...], kind: type[LightRAGError], words: str) -> None:
    with pytest.raises(kind, match=words):
        shown(*arguments)
