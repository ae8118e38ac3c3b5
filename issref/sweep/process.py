"""A run in a process of its own, wherever joblib puts it; all that is known of it afterwards is in its folder.

The folder of a sweep is the only thing that its processes share, so on a cluster it lies where every worker finds
it under the same path. result.json in a run's folder says that it is finished, failed.txt why it failed, log.txt
what it said; the file `stop` in the sweep's folder asks all its runs to stop.
"""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from issref.sweep.grid import Run

STOP, LOG, FAILED, RESULT = "stop", "log.txt", "failed.txt", "result.json"
CHILD = "import sys; from issref.sweep.process import child; sys.exit(child(*sys.argv[1:]))"
STOPPED = (130, -signal.SIGINT)  # how a run ends that was asked to stop, in training or before it


def train_chain(module: str, folder: Path, chain: Sequence[Run], threads: int) -> None:
    """Train the runs of a chain one after another; a failure fails those that would start from it."""
    for run in chain:
        place = folder / run.name
        start = ["--init", str(folder / run.after)] if run.after else []
        if run.after and not (folder / run.after / RESULT).is_file():
            if (folder / run.after / FAILED).is_file():
                place.mkdir(exist_ok=True)
                (place / FAILED).write_text(f"needs the model of {run.after}, which failed")
        elif not (place / RESULT).is_file() and not (folder / STOP).exists():
            train(module, place, [*run.arguments, *start], threads)


def train(module: str, place: Path, arguments: Sequence[str], threads: int) -> None:
    """Start or resume one run in a new process, wait for its end, and write down why if it failed."""
    place.mkdir(exist_ok=True)
    (place / FAILED).unlink(missing_ok=True)
    half = (place / "config.json").is_file()  # which a run writes behind its first checkpoint
    words = ["--resume", str(place)] if half else [*arguments, "--out", str(place)]
    command = [sys.executable, "-c", CHILD, module, str(place.parent / STOP), *words, "--threads", str(threads)]
    with (place / LOG).open("ab") as log:
        said = log.tell()
        streams = {"stdin": subprocess.PIPE, "stdout": log, "stderr": subprocess.STDOUT}
        with subprocess.Popen(command, start_new_session=True, **streams) as process:
            code = process.wait()
    if code not in (0, *STOPPED):
        (place / FAILED).write_text(_sentence((place / LOG).read_bytes()[said:].decode(errors="replace"), code))


def _sentence(log: str, code: int) -> str:
    """Why a run failed: in its own words, without how to go on, or by how its process ended."""
    said = [line.removeprefix("issref: ") for line in log.splitlines() if line.startswith("issref: ")]
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return said[-1].partition("; ")[0] if said else f"its process {ended}, see {LOG}"


def child(module: str, stop: str, *arguments: str) -> int:
    """In the new process: train, stop if asked to, and end at once with the process that started this one."""
    threading.Thread(target=_watch, args=(Path(stop),), daemon=True).start()
    return import_module(module).main(list(arguments))


def _watch(stop: Path) -> None:
    """The pipe from the starting process closes as it ends, however it ends; nothing is ever written to it."""
    while not select.select([0], [], [], 0.5)[0]:
        if stop.exists():
            os.kill(os.getpid(), signal.SIGINT)
            break
    os.read(0, 1)
    os._exit(1)
