"""Run benchmarks, and write the measurements to results/benchmarks.json and RESULTS.md.

python -m benchmarks                               everything: half an hour, and as long for shrink-*
python -m benchmarks step-small evaluation         some benchmarks; other entries stay unchanged
python -m benchmarks shrink-small --run small=RUN  read a finished run of this machine
python -m benchmarks --json FILE                   write the figures of the table of targets by name
python -m benchmarks --simulate-avx2               on a processor with AVX-512, measure as on one without

Entries belong to a kind of processor: AVX-512, AVX2, or AVX2, simulated. A run renews the entries of its own kind.
"""

import io
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from matplotlib import rc_context
from tqdm import tqdm

from benchmarks import (
    evaluation,
    loops,
    memory,
    page,
    pairs,
    projection,
    prox,
    record,
    roofline,
    scaling,
    shrink,
    sparsity,
    start,
    steps,
)
from benchmarks.targets import TARGETS, values
from benchmarks.timing import THREADS
from benchmarks.words import Figures
from issref.kernels import parallel
from issref.report import STYLE
from issref.training.checkpoint import write_json, write_whole
from issref.training.process import tune_malloc

PROGRAM = "python -m benchmarks"
IDLE = 0.1  # cores that others may use
Name = Literal[
    "pairs-small", "pairs-medium", "pairs-large", "pairs-evaluation", "step-small", "step-medium", "step-large",
    "evaluation", "prox-small", "prox-large", "memory", "roofline", "sparsity", "loops", "scaling", "start",
    "projection", "shrink-small", "shrink-zaremba",
]  # fmt: skip


@dataclass(frozen=True)
class Command:
    """Measure speed and memory of issref, and compare with frameworks and the machine's limits."""

    names: tyro.conf.Positional[tuple[Name, ...]] = ()
    """Benchmarks to run; all if none is named."""
    json: Path | None = None
    """File for the figures of the table of targets, by name; null for those not measured by this command."""
    seconds: float = 12.0
    """Time for the turns of each benchmark; each takes at least five turns, and some take longer."""
    run: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=FOLDER")] = ()
    """small=FOLDER, zaremba=FOLDER: finished runs that the shrink benchmarks read instead of training."""
    folder: Path = record.HERE
    """Folder of results/benchmarks.json, RESULTS.md and pictures/."""
    simulate_avx2: bool = False
    """Limit OpenBLAS, numba and PyTorch to AVX2, on a processor with AVX-512."""

    def finished(self, name: str) -> Path | None:
        """The folder that --run gives for a name."""
        runs = dict(given.split("=", 1) for given in self.run)
        return Path(runs[name]) if name in runs else None

    def check(self) -> None:
        """Raise ValueError for a --run that names none, or for a kind of processor that cannot be simulated."""
        if self.simulate_avx2 and record.kind() not in ("AVX-512", "AVX2, simulated"):
            raise ValueError(f"--simulate-avx2: expected a processor with AVX-512, got {record.kind()}")
        for given in self.run:
            if given.partition("=")[0] not in shrink.RUNS or not given.partition("=")[2]:
                raise ValueError(f"--run: needs NAME=FOLDER with a name of {list(shrink.RUNS)}, found {given!r}")


BENCHMARKS: dict[Name, Callable[[Command], Figures]] = {
    "pairs-small": lambda command: pairs.measure("small", command.seconds),
    "pairs-medium": lambda command: pairs.measure("medium", command.seconds),
    "pairs-large": lambda command: pairs.measure("large", command.seconds),
    "pairs-evaluation": lambda command: pairs.measure("evaluation", command.seconds),
    "step-small": lambda command: steps.measure("small", command.seconds),
    "step-medium": lambda command: steps.measure("medium", command.seconds),
    "step-large": lambda command: steps.measure("large", command.seconds),
    "evaluation": lambda command: evaluation.measure(command.seconds),
    "prox-small": lambda command: prox.measure("small", command.seconds),
    "prox-large": lambda command: prox.measure("large", command.seconds),
    "memory": lambda command: memory.measure(),
    "roofline": lambda command: roofline.measure(3 * command.seconds),
    "sparsity": lambda command: sparsity.measure(command.seconds),
    "loops": lambda command: loops.measure(command.seconds),
    "scaling": lambda command: scaling.measure(2 * command.seconds),
    "start": lambda command: start.measure(),
    "projection": lambda command: projection.measure(2 * command.seconds),
    "shrink-small": lambda command: shrink.measure("small", command.seconds, command.finished("small")),
    "shrink-zaremba": lambda command: shrink.measure("zaremba", command.seconds, command.finished("zaremba")),
}


def measure(name: Name, command: Command, spelled: str) -> None:
    """Run one benchmark, keep its entry, and write the page anew."""
    others, started = record.others_seconds(), time.perf_counter()
    figures = BENCHMARKS[name](command)
    seconds = time.perf_counter() - started
    busy = (record.others_seconds() - others) / seconds
    if busy > IDLE:
        tqdm.write(f"{name}: other processes kept {busy:.1f} cores busy, to be measured again on an idle machine")
    entry = record.entry(figures, spelled, seconds, busy)
    write(command.folder, record.keep(command.folder, name, entry))
    for target in TARGETS:
        if target.name in figures:
            measured, verdict = page.judged(target, figures, record.kind())
            tqdm.write(f"{target.name:24}{measured}, wanted {target.wanted()}: {verdict}")


def write(folder: Path, kinds: record.Kinds) -> None:
    """RESULTS.md, and the pictures of this kind of processor."""
    write_whole(folder / "RESULTS.md", page.written(kinds).encode())
    for module in page.PICTURES:
        if drawn := module.picture(record.figures_of(kinds[record.kind()])):
            path = folder / page.pictures(record.kind()) / module.PICTURE.name
            path.parent.mkdir(parents=True, exist_ok=True)
            content = io.BytesIO()
            with rc_context(STYLE):
                drawn.savefig(content, format="png")
            write_whole(path, content.getvalue())


def main(arguments: list[str] | None = None) -> int:
    """Run the command: 0 if all went well, 1 if a benchmark failed, 2 for bad input, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = tyro.cli(Command, args=arguments, prog=PROGRAM)
    tune_malloc()
    measured, code = [], 0
    try:
        command.check()
        if command.simulate_avx2 and record.kind() == "AVX-512":  # the libraries are loaded: start again
            os.execve(
                sys.executable, [sys.executable, "-m", "benchmarks", *arguments], os.environ | record.SIMULATED
            )
        names = command.names or tuple(BENCHMARKS)
        with parallel.thread_limit(THREADS):
            tqdm.write(f"{record.kind()}: {page.machine(record.environment())}")
            for name in tqdm(names, "benchmarks", unit="benchmark"):
                tqdm.write(f"{name} ...")
                try:
                    measure(name, command, " ".join((PROGRAM, *arguments)))
                    measured.append(name)
                except Exception as error:  # the others are still worth their time
                    tqdm.write(f"{name}: not measured, {type(error).__name__}: {error}")
                    code = 1
    except ValueError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        code = 130
    if command.json:
        kept = record.load(command.folder).get(record.kind(), {})
        entries = {name: entry for name, entry in kept.items() if name in measured}
        write_json(command.json, values(record.figures_of(entries)))
    return code


if __name__ == "__main__":
    sys.exit(main())
