"""Ingestion under fire: ``python -m tests.benchmarks.ingest_chaos`` (about three minutes on an idle machine).

Three nodes on this machine. At ten moments, drawn from a seed, the job's driver, one of its workers or a whole node is
killed with SIGKILL; a job whose driver died is run again. The table says when, what a reader of the corpus saw right
after it, how many batches were begun again, and how many might be (one of each worker that died), and whether the
version is in all parts the one of an undisturbed run: documents, chunks, vectors, gists and index.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.lightrag.ingestion.conftest import story
from tests.pipelines.chaos import Trial, random_moments, three_nodes


def main() -> int:
    """Read arguments and run; returns how many moments broke a promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=10)
    parser.add_argument("--documents", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parsed = parser.parse_args()
    moments = random_moments(parsed.moments, parsed.documents, parsed.seed)
    broken = 0
    with tempfile.TemporaryDirectory() as scratch, three_nodes() as nodes:
        docs = Path(scratch, "docs")
        docs.mkdir()
        for number in range(parsed.documents):
            (docs / f"{number:03d}.txt").write_text(story(number), encoding="utf-8")
        storage = {"url": Path(scratch, "objects").as_uri()}
        alone = Trial(Path(scratch), str(docs), storage, "alone")
        batches = alone.ingest_alone()
        wanted = alone.contents()
        print(f"{parsed.documents} documents in {batches} batches, three stages; seed {parsed.seed}")
        print("  killed   objects staged  pools   killed in time  then seen    begun again  allowed  same version")
        for number, moment in enumerate(moments):
            trial = Trial(Path(scratch), str(docs), storage, f"moment{number}", patience=900)
            result = trial.ingest(nodes, moment, batches, random.Random(f"{parsed.seed}/{number}"))
            same = trial.contents() == wanted and result.batches == batches
            right = same and result.seen in ("", "nothing", "everything") and result.repeated <= result.allowed
            broken += not right
            print(
                f"  {moment.victim:<8} {moment.objects:>14}  {moment.pools:<6}  {'yes' if result.killed else 'no':<14}"
                f"  {result.seen or '-':<11}  {result.repeated:>11}  {result.allowed:>7}  {'yes' if same else 'NO'}"
                f"{'' if right else '   BROKEN'}",
                flush=True,
            )
    print(f"{broken} of {len(moments)} broken")
    return broken


if __name__ == "__main__":
    sys.exit(main())
