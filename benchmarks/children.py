"""Python run as a process of its own, at the project's root, and the memory it needed."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
Arguments = Sequence[str | Path]

# A process starts with the peak of the one it was forked from, so a small one stands between.
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, *sys.argv[1:]], stdout=sys.stderr).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss


def run(arguments: Arguments, *, show: bool = False, env: Mapping[str, str] | None = None) -> str:
    """What Python prints, given these arguments; with `show`, errors and progress are seen as they come.

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
    """The peak of its resident memory, in MB (10^6 bytes); what it prints goes to the errors."""
    return int(run(["-c", LAUNCHER, *arguments], show=show)) * UNIT / 1e6
