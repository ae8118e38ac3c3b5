"""Run Python in a separate process, at the project's root, and measure its memory."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
Arguments = Sequence[str | Path]

# A process inherits the peak of the process that forked it, so a small process starts the measured one.
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, *sys.argv[1:]], stdout=sys.stderr).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss


def run(arguments: Arguments, *, show: bool = False, env: Mapping[str, str] | None = None) -> str:
    """Return the output of Python with these arguments; with `show`, print errors and progress at once.

    Raises ValueError, with the last line of its errors, if it fails.
    """
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=None if show else subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        said = (done.stderr or "what it says above").strip().splitlines()
        raise ValueError(f"a child process: needed to end well, found code {done.returncode} and: {said[-1]}")
    return done.stdout


def peak_mb(arguments: Arguments, *, show: bool = False) -> float:
    """Return the peak resident memory in MB (10^6 bytes); standard output is sent to standard error."""
    return int(run(["-c", LAUNCHER, *arguments], show=show)) * UNIT / 1e6
