"""``python -m lightrag.cli``: the same as the ``lightrag`` command."""

from lightrag.cli import main

main()
