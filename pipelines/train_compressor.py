"""Train a compressor: ``python -m pipelines.train_compressor --stage S --language-model M --data F --output FOLDER``.

It goes on where an interrupted run in the folder stopped. What was trained is ``FOLDER/compressive_encoder``, or
``FOLDER/embedding_model`` for the estimator's stages; FOLDER itself can be served.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lightrag.training.compressor_job import CompressorTraining
from pipelines import training


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return training.main(CompressorTraining, arguments)


if __name__ == "__main__":
    sys.exit(main())
