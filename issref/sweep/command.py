"""The command: which runs, where, on what; it watches them and writes down how they ended."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro
from joblib import Parallel, cpu_count, delayed, parallel_config
from tqdm import tqdm

from issref.sweep import grid, standing
from issref.sweep.process import STOP, train_chain
from issref.sweep.trained import COMMANDS, Trained
from issref.training import console
from issref.training.process import defer_interrupts
from issref.training.runs import Failed

PROGRAM = "python -m issref.sweep"

PATIENCE = 10  # seconds to wait for a scheduler
ONE_BY_ONE: dict[str, Any] = {"batch_size": 1}  # else joblib puts runs together once it has seen quick ones


@dataclass(frozen=True)
class Options:
    """Train one model for each combination of settings, as many at a time as there are cores.

    Every setting of the training command may be given, with one value or several: --strength 1e-3 3e-3 --seed 0 1
    are four runs. Commas part the numbers of one value: --hidden-sizes 200,200 --strength 3e-3,4e-3 5e-3.
    --strength auto:8 takes eight over the useful range, and a dense run beside them.
    """

    command: Literal["ptb", "squad"] = "ptb"
    """The training command: train_ptb or train_squad."""
    out: Path | None = None
    """Folder to write to, sweeps/<date> if not given; in that of the same sweep, stopped or with fewer runs, goes
    on where it was."""
    jobs: int | None = None
    """Runs at a time on this machine, each with its share of the cores; as many as cores if not given."""
    cluster: str | None = None
    """Address of a Dask scheduler (tcp://host:8786) whose workers share this file system."""
    path: tyro.conf.FlagCreatePairsOff[bool] = False
    """Start each strength from the model of the one below; the smallest from the dense one, if there is one."""


OWN = {field.name for field in fields(Options)}


def parse(arguments: Sequence[str]) -> tuple[Options, list[list[grid.Run]], int]:
    """The options, the runs in chains, and the threads of each run."""
    if {"-h", "--help"} & set(arguments):
        tyro.cli(Options, args=["--help"], prog=PROGRAM)
    words = grid.read(arguments)
    own = {name: values for name, values in words.items() if name in OWN}
    grid.check({name: values for name, values in own.items() if name != "path"}, known=OWN, single=OWN)
    flat = [word for name, values in own.items() for word in (grid.flag_of(name), *values)]
    options = tyro.cli(Options, args=flat, prog=PROGRAM)
    if options.jobs is not None and (options.jobs < 1 or options.cluster):
        raise ValueError(f"--jobs: needs a number from 1 up, on this machine alone, got {options.jobs}")
    settings = {name: values for name, values in words.items() if name not in OWN}
    runs = grid.runs_of(settings, COMMANDS[options.command])
    chains = grid.chains(runs, options.path)
    share = 1 if options.cluster else max(1, cpu_count() // jobs_for(options, chains))
    return options, chains, runs[0].settings.run.threads or share


def jobs_for(options: Options, chains: Sequence[Any]) -> int:
    """How many chains run at a time on this machine."""
    return min(options.jobs or cpu_count(), len(chains))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if every run finished, 1 if one failed, 2 for bad input, 130 after Ctrl-C."""
    from issref.sweep import frontier  # matplotlib is slow to load

    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options, chains, threads = parse(words)
        runs, trained = [run for chain in chains for run in chain], COMMANDS[options.command]
        epochs = epochs_of(runs, trained)
        folder = (options.out or Path("sweeps") / time.strftime("%Y-%m-%d-%H%M%S")).resolve()
        standing.check_same(folder, trained, runs)
        with workers(options, chains) as parallel:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / STOP).unlink(missing_ok=True)
            record = partial(standing.write_sweep, folder, trained, words, runs)
            module = trained.command.__name__
            jobs = [delayed(train_chain)(module, folder, chain, threads) for chain in chains]
            stopped = watch(partial(parallel, jobs), folder, epochs, trained.shown, record)
        sweep = record()
        written = frontier.write_tables(folder, sweep)
    except (ValueError, Failed, OSError) as error:
        return console.failed(str(error), 2 if isinstance(error, ValueError) else 1)
    except KeyboardInterrupt:
        return console.failed("stopped", 130)
    console.log(f"\n{frontier.markdown(sweep)}\nwritten: {', '.join(map(str, written))}")
    if stopped:
        return console.failed(f"stopped; the same command with --out {folder} goes on", 130)
    failures = [row for row in sweep["runs"] if row["state"] != "finished"]
    for row in failures:
        console.failed(f"{row['name']}: {row['sentence'] or row['state']}", 1)
    return int(bool(failures))


def epochs_of(runs: Sequence[grid.Run], trained: Trained) -> dict[str, int]:
    """The epochs of each run; their corpus is fetched here once, and not by all of them at the same time."""
    corpus = trained.command.load_corpus(runs[0].settings)
    return {run.name: trained.epochs(run.settings, corpus) for run in runs}


@contextmanager
def workers(options: Options, chains: Sequence[Any]) -> Iterator[Parallel]:
    """What runs the chains: threads of this process, which wait for those of the runs, or a cluster's workers.

    Raises ValueError if there is no such cluster, Failed if it gives up.
    """
    if not options.cluster:
        yield Parallel(jobs_for(options, chains), backend="threading", **ONE_BY_ONE)
        return
    try:
        from dask.distributed import Client  # pyright: ignore[reportMissingImports]: an extra

        client = Client(options.cluster, timeout=PATIENCE, set_as_default=False)
    except ImportError as error:
        raise ValueError("--cluster: needs Dask (pip install 'issref[cluster]'), found none") from error
    except Exception as error:
        raise ValueError(f"--cluster: needs a Dask scheduler at {options.cluster}, found none") from error
    with client, parallel_config("dask", client=client):
        yield Parallel(-1, pre_dispatch="all", **ONE_BY_ONE)


def watch(
    work: Callable[[], Any], folder: Path, epochs: Mapping[str, int], shown: str, record: Callable[[], Any]
) -> bool:
    """Do the work, show a line whenever a run gets on, and say whether a signal stopped it all.

    `epochs` has those of each run by its name; `shown` is the score that a line has.
    """
    width, since, seen = max(map(len, epochs)), time.time() - 1, {}
    console.log(f"{len(epochs)} runs in {folder}   (Ctrl-C stops them; resume with --out {folder})")
    console.log(f"{'run':{width}}  {'state':8}  {'epoch':>9}  {'valid':>9}  alive")
    record()
    with ThreadPoolExecutor(1) as pool, defer_interrupts() as interrupted, total_bar(epochs) as bar:
        future = pool.submit(work)
        try:
            while not future.done():
                wait([future], timeout=1)
                if interrupted:
                    (folder / STOP).touch()
                if tell(folder, epochs, shown, since, seen):
                    record()
                bar.n = sum(epoch for _, epoch in seen.values())
                bar.refresh()
            future.result()
        except BaseException as error:
            (folder / STOP).touch()
            if isinstance(error, (KeyboardInterrupt, OSError)):
                raise
            raise Failed(f"the workers gave up ({error}); the same command with --out {folder} goes on") from error
    return bool(interrupted)


def total_bar(epochs: Mapping[str, int]) -> tqdm:
    """The epochs of all runs."""
    return tqdm(total=sum(epochs.values()), unit=" epochs", leave=False, dynamic_ncols=True, disable=None)


def tell(folder: Path, epochs: Mapping[str, int], shown: str, since: float, seen: dict[str, Any]) -> bool:
    """A line for each run that has got on since it was `seen`; whether a state has changed."""
    changed, width = False, max(map(len, epochs))
    for name, total in epochs.items():
        now = standing.standing(folder / name, since, shown)
        state, epoch = seen.get(name, ("waiting", 0))
        if (now["state"], now["epoch"]) != (state, epoch):
            valid = f"{now[shown]:9.2f}" if now["epoch"] else " " * 9
            alive = now["sentence"] or " ".join(map(str, (now["alive"] or {}).values()))
            done = f"{now['epoch']} of {total}"
            console.log(f"{name:{width}}  {now['state']:8}  {done:>9}  {valid}  {alive}")
        changed |= now["state"] != state
        seen[name] = (now["state"], now["epoch"])
    return changed
