"""Train each run in its own process, on this machine or on a worker of a cluster.

The processes of a sweep share nothing but its folder, so on a cluster the folder needs the same path on every
worker. In a run's folder result.json exists once the run is finished, failed.txt holds why it failed, log.txt its
output. A file named `stop` in the sweep's folder asks all runs to stop.
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
from issref.training.checkpoint import check_regular, write_whole

STOP, LOG, FAILED, RESULT = "stop", "log.txt", "failed.txt", "result.json"
CHILD = "import sys; from issref.sweep.process import child; sys.exit(child(*sys.argv[1:]))"
STOPPED = (130, -signal.SIGINT)  # exit codes of a run that was asked to stop, in training or before it


def train_chain(module: str, folder: Path, chain: Sequence[Run], threads: int) -> None:
    """Train the runs of a chain one after another. If one fails, so do the runs that need its model."""
    for run in chain:
        run_folder = folder / run.name
        start = ["--init", str(folder / run.after)] if run.after else []
        if run.after and not (folder / run.after / RESULT).is_file():
            if (folder / run.after / FAILED).is_file():
                run_folder.mkdir(exist_ok=True)
                reason = f"--init: expected the model of {run.after}, got a failed run"
                write_whole(run_folder / FAILED, reason.encode())
        elif not (run_folder / RESULT).is_file() and not (folder / STOP).exists():
            train(module, run_folder, [*run.arguments, *start], threads)


def train(module: str, folder: Path, arguments: Sequence[str], threads: int) -> None:
    """Start or resume a run in a new process and wait for its end; if it fails, write the reason to failed.txt."""
    folder.mkdir(exist_ok=True)
    (folder / FAILED).unlink(missing_ok=True)
    begun = (folder / "config.json").is_file()  # written after the first checkpoint
    words = ["--resume", str(folder)] if begun else [*arguments, "--out", str(folder)]
    command = [sys.executable, "-c", CHILD, module, str(folder.parent / STOP), *words, "--threads", str(threads)]
    check_regular(folder / LOG)
    with (folder / LOG).open("ab") as log:
        start = log.tell()
        streams = {"stdin": subprocess.PIPE, "stdout": log, "stderr": subprocess.STDOUT}
        with subprocess.Popen(command, start_new_session=True, **streams) as process:
            code = process.wait()
    if code not in (0, *STOPPED):
        output = (folder / LOG).read_bytes()[start:].decode(errors="replace")
        write_whole(folder / FAILED, _reason(output, code).encode())


def _reason(output: str, code: int) -> str:
    """Return why a run failed: its last message without the hint how to resume, or how its process ended."""
    messages = [line.removeprefix("issref: ") for line in output.splitlines() if line.startswith("issref: ")]
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return messages[-1].partition("; ")[0] if messages else f"its process {ended}, see {LOG}"


def child(module: str, stop: str, *arguments: str) -> int:
    """Train in the new process. Stop if the file `stop` appears; exit at once if the parent process ends."""
    threading.Thread(target=_watch, args=(Path(stop),), daemon=True).start()
    return import_module(module).main(list(arguments))


def _watch(stop: Path) -> None:
    """Watch the pipe from the parent process, to which nothing is written: it closes when the parent ends."""
    while not select.select([0], [], [], 0.5)[0]:
        if stop.exists():
            os.kill(os.getpid(), signal.SIGINT)
            break
    os.read(0, 1)
    os._exit(1)
