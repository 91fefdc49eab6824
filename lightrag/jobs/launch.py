"""Become the process of a job: ``python -m lightrag.jobs.launch FOLDER -- COMMAND …``.

The folder then says which process it is. It can say so only once: a second launch into the same folder, by a supervisor
that was lost before it could note the first, ends at once. From then on the process depends on nobody.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

import psutil

PROCESS: Final = "process.json"
EVENTS: Final = "events.jsonl"
LOG: Final = "log.txt"


def main() -> None:
    """Note this process, send its output to the folder, and run the command in its place."""
    folder, command = Path(sys.argv[1]), sys.argv[3:]
    noted = folder / f"{PROCESS}.{os.getpid()}"
    noted.write_text(json.dumps({"pid": os.getpid(), "started": psutil.Process().create_time()}), encoding="utf-8")
    try:
        os.link(noted, folder / PROCESS)  # all of it or nothing, and the first one wins
    except FileExistsError:
        return
    finally:
        noted.unlink()
    for number, name in ((1, EVENTS), (2, LOG)):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    os.execv(command[0], command)  # noqa: S606  # the command of the supervisor that starts us


if __name__ == "__main__":
    main()
