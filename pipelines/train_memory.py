"""Train a beacon memory model: ``python -m pipelines.train_memory --model M --data FILE --output FOLDER``.

It goes on where an interrupted run in the folder stopped. The trained model is ``FOLDER/memory_model``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lightrag.training.memory_job import MemoryTraining
from pipelines import training


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return training.main(MemoryTraining, arguments)


if __name__ == "__main__":
    sys.exit(main())
