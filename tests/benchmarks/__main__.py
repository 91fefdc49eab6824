"""Run every benchmark that the documentation quotes, one after the other: ``make bench`` (over an hour)."""

from __future__ import annotations

import argparse
import subprocess
import sys

COMMANDS: dict[str, list[str]] = {
    "retrieval": ["retrieval_quality"],
    "conversation": ["conversation_quality"],
    "conversation-cost": ["conversation_cost"],
    "conversation-speed": ["conversation_speed"],
    "ingest-cpu": ["ingest_cost", "cost"],
    "ingest-memory": ["ingest_cost", "memory"],
    "ingest-again": ["ingest_throughput", "again"],
    "ingest-workers": ["ingest_throughput", "workers"],
    "ingest-chaos": ["ingest_chaos"],
    "publish-memory": ["publish_memory"],
    "serve": ["serve_overhead"],
    "serve-haproxy": ["serve_overhead", "--proxy", "haproxy"],
    "serve-load": ["serve_load"],
    "serve-load-haproxy": ["serve_load", "--proxy", "haproxy"],
    "serve-chaos": ["serve_chaos"],
    "serve-chaos-haproxy": ["serve_chaos", "--proxy", "haproxy"],
    "cold-start": ["cold_start"],
    "autoscaling": ["autoscaling"],
    "fairness": ["fairness"],
    "models": ["model_speed"],
    "index-scale": ["index_scale"],
    "corpus-scale": ["corpus_scale"],
    "memory": ["memory_speed"],
    "memory-loading": ["memory_loading"],
    "memory-scale": ["memory_scale"],
    "memory-vllm": ["memory_vllm"],
    "compression": ["compression_speed"],
    "compression-learning": ["compression_learning"],
    "memory-learning": ["memory_learning"],
}


def main() -> int:
    """Run the chosen benchmarks; returns how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(COMMANDS)}; all by default")
    names = parser.parse_args().names or list(COMMANDS)
    if unknown := [name for name in names if name not in COMMANDS]:
        parser.error(f"no such benchmark: {', '.join(unknown)}; choose of {', '.join(COMMANDS)}")
    failed = 0
    for name in names:
        module, *options = COMMANDS[name]
        sys.stdout.write(f"\n=== {name}: python -m tests.benchmarks.{module} {' '.join(options)}\n")
        sys.stdout.flush()
        failed += (
            subprocess.run([sys.executable, "-m", f"tests.benchmarks.{module}", *options], check=False).returncode != 0
        )
    return failed


if __name__ == "__main__":
    sys.exit(main())
