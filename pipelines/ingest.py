"""Ingest documents into a corpus with Ray Data: ``python -m pipelines.ingest PATH --corpus NAME``.

Thin on purpose: it reads arguments, shows progress, and hands the stages of ``lightrag.ingestion`` to Ray. Exit codes:
0 done, 1 failed (nothing was committed; finished work is kept for the next run), 2 called wrongly.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Self

from lightrag.config import load_settings
from lightrag.errors import UsageError
from lightrag.ingestion.encode import encode_locally
from lightrag.ingestion.group_units import GroupReceipt, GroupUnit
from lightrag.ingestion.indexing import IndexReceipt, IndexUnit, index_locally
from lightrag.ingestion.job import ingest
from lightrag.ingestion.line import Line, Receipt, Unit, run_locally
from lightrag.ingestion.spec import IngestSpec
from pipelines.command import run, spec_text
from pipelines.display import Display, JsonDisplay, TerminalDisplay


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parsed = _parser().parse_args(arguments)
    display: Display = TerminalDisplay() if parsed.json is None else JsonDisplay()

    def job() -> bool:
        with display:
            spec = _spec(parsed)
            settings = load_settings(parsed.config, **{"tenant": spec.tenant, **spec.settings})
            with Line(settings, spec) as line, RaySchedule() as ray:
                here = (run_locally, encode_locally, index_locally)
                documents, groups, index = here if parsed.local else (ray.documents, ray.groups, ray.index)
                done = ingest(
                    line,
                    schedule=documents,
                    encode=groups,
                    index=index,
                    report=display.progress,
                    job_id=parsed.job_id,
                )
                display.summary(done)
        return True

    return run(job, display.failure, stopped="stopped; finished work is kept, and the next run goes on from it")


class RaySchedule:
    """Runs a job's stages on the cluster that its spec names, or on a private one that ends with the job.

    Use it as a context manager. Nothing is started before there is something to do: an ingest of nothing needs no Ray.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._connected = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def documents(self, units: Sequence[Unit], line: Line) -> Iterator[Receipt]:
        """Bring documents through their stages."""
        from pipelines.stations import choose_pools, run_on_ray

        pools = choose_pools(line.settings, sum(state.item.size for unit in units for state in unit.states), len(units))
        needed = sum(pool.workers * pool.cpus for pool in pools)
        if line.settings.generator.backend == "vllm":
            from pipelines.gist_pool import engine_cpus, run_with_engines

            self._connect(line, max(needed, engine_cpus(line.settings)))
            yield from run_with_engines(units, line, pools)
        else:
            self._connect(line, needed)
            yield from run_on_ray(units, line, pools)

    def groups(self, units: Sequence[GroupUnit], line: Line) -> Iterator[GroupReceipt]:
        """Encode groups of documents."""
        from pipelines.stations import encode_on_ray, encoding_pool

        self._connect(line, 0)
        yield from encode_on_ray(units, line, encoding_pool(line.settings, len(units)))

    def index(self, unit: IndexUnit, line: Line) -> IndexReceipt:
        """Make gists and index, on a worker where they are large."""
        from pipelines.indexing import CPUS, SMALL_INDEX_PASSAGES, index_on_ray

        if unit.passages <= SMALL_INDEX_PASSAGES:
            return index_locally(unit, line)
        self._connect(line, CPUS)
        return index_on_ray(unit, line)

    def _connect(self, line: Line, cpus: float) -> None:
        from pipelines.allocation import give_memory_back
        from pipelines.cluster import cluster
        from pipelines.stations import encoding_pool

        if not self._connected:
            give_memory_back()  # from here on, others compute
            # Both kinds of work use one cluster, one after the other.
            pool = encoding_pool(line.settings, line.settings.ingest.encode_workers)
            needed = max(cpus, pool.workers * pool.cpus if line.group_recipes else 0)
            self._stack.enter_context(cluster(line.spec.address, cpus=needed))
            self._connected = True


def _spec(parsed: argparse.Namespace) -> IngestSpec:
    if parsed.json:
        if parsed.source or parsed.corpus:
            raise UsageError("give either a spec after --json, or a source and --corpus")
        return IngestSpec.parse(spec_text(parsed.json))
    if not parsed.source or not parsed.corpus:
        raise UsageError("say what to ingest and where to: python -m pipelines.ingest PATH --corpus NAME")
    options = dict(_option(text) for text in parsed.option)
    source = {
        "location": parsed.source,
        "name": parsed.name,
        "format": parsed.format,
        "text_column": parsed.text_column,
        "id_column": parsed.id_column,
        "title_column": parsed.title_column,
        "metadata_columns": parsed.metadata_column,
        "options": options,
    }
    return IngestSpec.parse(
        {
            "corpus": parsed.corpus,
            "tenant": parsed.tenant or load_settings(parsed.config).tenant,
            "source": source,
            "keep_missing": parsed.keep_missing,
            "retry_failed": parsed.retry_failed,
            "address": parsed.address,
        }
    )


def _option(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark:
        raise UsageError(f"--option takes NAME=VALUE, got {text!r}")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.ingest",
        description="Ingest documents into a corpus. Unchanged documents are skipped; a stopped run is resumed.",
    )
    add = parser.add_argument
    add("source", nargs="?", help="folder, file, glob, s3:// gs:// az:// prefix, .parquet or .jsonl, corpus://NAME")
    add("--corpus", help="corpus to write")
    add("--tenant", default="", help="owner of the corpus (default: of the settings)")
    add("--config", default=None, help="settings file (YAML)")
    add("--name", default="", help="identity of the source, where its location may change (default: its location)")
    add("--format", default="auto", choices=["auto", "documents", "parquet", "jsonl"])
    add("--text-column", default="text", help="of tables (default: text)")
    add("--id-column", default="", help="of tables (default: position in the file)")
    add("--title-column", default="", help="of tables")
    add("--metadata-column", action="append", default=[], metavar="NAME", help="carried through; may be repeated")
    add("--option", action="append", default=[], metavar="NAME=VALUE", help="for the source's object store")
    add("--keep-missing", action="store_true", help="keep documents that the source does not have any more")
    add("--retry-failed", action="store_true", help="try unchanged documents again that failed before")
    add("--address", default="", help="Ray cluster (default: RAY_ADDRESS, else a private one for this job)")
    add("--local", action="store_true", help="run all stages in this process, without Ray")
    add("--job-id", default="", help="recorded with the version; a job that is run again keeps its own")
    add("--json", nargs="?", const="", metavar="SPEC", help="write JSON lines; with a SPEC, take the job from it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
