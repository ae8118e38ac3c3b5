"""The sweep command: parse the lists, start the runs, print their progress, write the tables."""

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

from issref.sweep import grid, status
from issref.sweep.process import STOP, train_chain
from issref.sweep.task import COMMANDS, TaskSpec
from issref.training import console
from issref.training.options import InvalidSettings
from issref.training.process import defer_interrupts
from issref.training.runs import Failed, run_lock

PROGRAM = "python -m issref.sweep"

PATIENCE = 10  # seconds to wait for a scheduler
ONE_BY_ONE: dict[str, Any] = {"batch_size": 1}  # joblib would put quick runs together in batches


@dataclass(frozen=True)
class Options:
    """Train one model for each combination of settings, as many at a time as there are cores.

    Every setting of the training command takes one value or several: --strength 1e-3 3e-3 --seed 0 1 are four
    runs. Commas separate the numbers of one value: --hidden-sizes 200,200 --strength 3e-3,4e-3 5e-3.
    --strength auto:8 takes eight strengths over the useful range, and adds a dense run.
    """

    command: Literal["ptb", "squad"] = "ptb"
    """The training command: train_ptb or train_squad."""
    out: Path | None = None
    """Folder to write to; sweeps/<date> if not given. A sweep in this folder is resumed if its runs are among
    these."""
    jobs: int | None = None
    """Runs at a time on this machine, each with an equal share of the cores; one for each core if not given."""
    cluster: str | None = None
    """Address of a Dask scheduler (tcp://host:8786) whose workers share this file system."""
    path: tyro.conf.FlagCreatePairsOff[bool] = False
    """Start each strength from the model of the one below; the smallest from the dense one, if there is one."""


OWN = {field.name for field in fields(Options)}


def parse(arguments: Sequence[str]) -> tuple[Options, list[list[grid.Run]], int]:
    """Return the options, the chains of runs, and the number of threads of each run.

    Raises ValueError for options or lists that no sweep can have.
    """
    if {"-h", "--help"} & set(arguments):
        tyro.cli(Options, args=["--help"], prog=PROGRAM)
    words = grid.read(arguments)
    own = {name: values for name, values in words.items() if name in OWN}
    grid.check({name: values for name, values in own.items() if name != "path"}, known=OWN, single=OWN)
    flat = [word for name, values in own.items() for word in (grid.flag_of(name), *values)]
    options = tyro.cli(Options, args=flat, prog=PROGRAM)
    if options.jobs is not None and (options.jobs < 1 or options.cluster):
        found = f"{options.jobs}{' with --cluster' if options.cluster else ''}"
        raise ValueError(f"--jobs: expected a number from 1 up and no --cluster, got {found}")
    settings = {name: values for name, values in words.items() if name not in OWN}
    runs = grid.runs_of(settings, COMMANDS[options.command])
    chains = grid.chains(runs, options.path)
    share = 1 if options.cluster else max(1, cpu_count() // jobs_for(options, chains))
    return options, chains, runs[0].settings.run.threads or share


def jobs_for(options: Options, chains: Sequence[Any]) -> int:
    """Return how many chains run at a time on this machine."""
    return min(options.jobs or cpu_count(), len(chains))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Exit codes: 0 if all runs finished, 1 if one failed, 2 for bad input, 130 after Ctrl-C."""
    from issref.sweep import frontier  # matplotlib is slow to load

    console.prepare_streams()
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options, chains, threads = parse(words)
        runs, task = [run for chain in chains for run in chain], COMMANDS[options.command]
        epochs = epochs_of(runs, task)
        folder = (options.out or Path("sweeps") / time.strftime("%Y-%m-%d-%H%M%S")).resolve()
        status.check_same(folder, task, runs)
        with workers(options, chains) as parallel:
            folder.mkdir(parents=True, exist_ok=True)
            with run_lock(folder):
                status.check_same(folder, task, runs)  # another sweep may have begun before the lock
                (folder / STOP).unlink(missing_ok=True)
                record = partial(status.write_sweep, folder, task, words, runs)
                module = task.command.__name__
                jobs = [delayed(train_chain)(module, folder, chain, threads) for chain in chains]
                stopped = watch(partial(parallel, jobs), folder, epochs, task.shown, record)
                sweep = record()
                written = frontier.write_tables(folder, sweep)
    except (ValueError, InvalidSettings) as error:
        return console.failed(str(error), 2)
    except (Failed, OSError) as error:
        return console.failed(str(error), 1)
    except KeyboardInterrupt:
        return console.failed("stopped", 130)
    console.log(f"\n{frontier.markdown(sweep)}\nwritten: {', '.join(map(str, written))}")
    if stopped:
        return console.failed(f"stopped; resume with the same command and --out {folder}", 130)
    failures = [row for row in sweep["runs"] if row["state"] != "finished"]
    for row in failures:
        console.failed(f"{row['name']}: {row['reason'] or row['state']}", 1)
    return int(bool(failures))


def epochs_of(runs: Sequence[grid.Run], task: TaskSpec) -> dict[str, int]:
    """Return the number of epochs of each run by its name.

    The corpus is downloaded here, once, so that the runs do not all download it at the same time.
    """
    corpus = task.command.load_corpus(runs[0].settings)
    return {run.name: task.epochs(run.settings, corpus) for run in runs}


@contextmanager
def workers(options: Options, chains: Sequence[Any]) -> Iterator[Parallel]:
    """Yield a joblib pool for the chains: threads that wait for the processes of the runs, or a cluster's workers.

    Raises ValueError if no Dask scheduler answers at the address, or if Dask is not installed.
    """
    if not options.cluster:
        yield Parallel(jobs_for(options, chains), backend="threading", **ONE_BY_ONE)
        return
    try:
        from dask.distributed import Client  # pyright: ignore[reportMissingImports]: an extra

        client = Client(options.cluster, timeout=PATIENCE, set_as_default=False)
    except ImportError as error:
        raise ValueError("--cluster: expected Dask (pip install 'issref[cluster]'), got none") from error
    except Exception as error:
        raise ValueError(f"--cluster: expected a Dask scheduler at {options.cluster}, got none") from error
    with client, parallel_config("dask", client=client):
        yield Parallel(-1, pre_dispatch="all", **ONE_BY_ONE)


def watch(
    work: Callable[[], Any], folder: Path, epochs: Mapping[str, int], shown: str, record: Callable[[], Any]
) -> bool:
    """Do the work, print a line whenever a run advances, and return whether a signal stopped the sweep.

    `epochs` is the number of epochs of each run by its name; `shown` is the score that is printed.
    Raises Failed if the workers stop with an error.
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
                if log_progress(folder, epochs, shown, since, seen):
                    record()
                bar.n = sum(epoch for _, epoch in seen.values())
                bar.refresh()
            future.result()
        except BaseException as error:
            (folder / STOP).touch()
            if isinstance(error, (KeyboardInterrupt, OSError)):
                raise
            hint = f"resume with the same command and --out {folder}"
            raise Failed(f"the workers stopped ({error}); {hint}") from error
    return bool(interrupted)


def total_bar(epochs: Mapping[str, int]) -> tqdm:
    """Return a progress bar over the epochs of all runs."""
    return tqdm(total=sum(epochs.values()), unit=" epochs", leave=False, dynamic_ncols=True, disable=None)


def log_progress(folder: Path, epochs: Mapping[str, int], shown: str, since: float, seen: dict[str, Any]) -> bool:
    """Print a line for each run that advanced since it was `seen`; return whether the state of a run changed."""
    changed, width = False, max(map(len, epochs))
    for name, total in epochs.items():
        now = status.run_status(folder / name, since, shown)
        state, epoch = seen.get(name, ("waiting", 0))
        if (now["state"], now["epoch"]) != (state, epoch):
            valid = f"{now[shown]:9.2f}" if now["epoch"] else " " * 9
            alive = now["reason"] or " ".join(map(str, (now["alive"] or {}).values()))
            done = f"{now['epoch']} of {total}"
            console.log(f"{name:{width}}  {now['state']:8}  {done:>9}  {valid}  {alive}")
        changed |= now["state"] != state
        seen[name] = (now["state"], now["epoch"])
    return changed
