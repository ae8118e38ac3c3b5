"""The shell of a training command: parsing with presets, exit codes, resuming, the end of an epoch."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import tyro

from issref.iss.layout import Layout
from issref.kernels import parallel
from issref.models.protocol import Network
from issref.training import console, history
from issref.training.checkpoint import remove_partial, write_json
from issref.training.models import init_params, load_initial_params
from issref.training.options import InvalidSettings, Options
from issref.training.process import handled, interrupt, trim_malloc, tune_malloc
from issref.training.recorder import Recorder
from issref.training.runs import LAST, Failed, Interrupted, load_last, new_folder, run_lock, save_last, save_run
from issref.training.state import RunState, all_alive

HELP = ("-h", "--help")  # shows the defaults of the preset that the command would run
# Settings that may differ when a run is resumed: threads, and the places of files, whose hash is compared.
MAY_CHANGE = {"threads", "data_dir", "corpus", "train", "dev", "glove"}


@dataclass(frozen=True, kw_only=True)
class RunCommand:
    """The flags of every training command."""

    settings: Any
    preset: str | None = None
    """Preset that gives the values of all settings without a flag; the quick run if not given."""
    small: tyro.conf.FlagCreatePairsOff[bool] = False
    """The quick run of minutes: the preset that is used if none is given."""
    out: Path | None = None
    """Folder to write to; runs/<date>-<preset> if not given."""
    resume: Path | None = None
    """Resume the run in this folder from its last checkpoint."""
    eval: Path | None = None
    """Evaluate the compact model of the run in this folder."""


C = TypeVar("C", bound=RunCommand)


def parse(
    kind: Callable[..., C],
    arguments: list[str] | None,
    presets: dict[str, Any],
    quick: Callable[[C, bool], str],
    exclusive: tuple[str, ...],
) -> C:
    """Parse the command line twice: first what gives the defaults (a preset, or a run's folder), then the rest.

    `quick` returns the preset of a quick run; it may look for the run's files if its second argument is true.
    Raises ValueError for flags that exclude each other, InvalidSettings for a setting out of its bounds.
    """
    words = sys.argv[1:] if arguments is None else arguments
    cli = partial(tyro.cli, kind, prog=f"python -m issref.{next(iter(presets.values())).COMMAND}")
    first = cli(args=[word for word in words if word not in HELP])
    if first.small and first.preset not in (None, quick(first, False)):
        raise ValueError(f"--small: expected --preset {quick(first, False)} or none, got --preset {first.preset}")
    given = [name for name in exclusive if getattr(first, name) is not None]
    if len(given) > 1:
        flags = ", ".join(f"--{name}" for name in exclusive)
        raise ValueError(f"{flags}: expected one of them at most, got {' '.join(f'--{name}' for name in given)}")
    helps = bool(set(words) & set(HELP))
    if given and given != ["out"] and (first.preset or first.small):
        raise ValueError(
            f"--{given[0]}: expected the run's own settings, got {'--preset' if first.preset else '--small'}"
        )
    if given and given != ["out"] and not helps:
        settings = type(first.settings).read(getattr(first, given[0]) / "config.json")
    else:
        settings = presets[first.preset or quick(first, not helps)]
    command = cli(args=words, default=kind(settings=settings, preset=first.preset))  # pyright: ignore[reportArgumentType]
    command.settings.check()
    return command


def run_command(parse: Callable[[], C], execute: Callable[[C], Any]) -> int:
    """Parse the command line, execute the command on its threads, and return the exit code.

    0 if all went well, 1 if training failed, 2 for bad input, 130 after Ctrl-C; the reason is printed on stderr.
    """
    console.prepare_streams()
    tune_malloc()
    console.show_library_messages()
    hint = ""
    try:
        command = parse()
        hint = f"; {console.resume_hint(command.resume)}" if command.resume else ""
        with handled(interrupt), parallel.thread_limit(command.settings.run.threads):
            execute(command)
    except (ValueError, InvalidSettings) as error:
        return console.failed(str(error), 2)
    except (Failed, ArithmeticError, OSError, MemoryError) as error:
        return console.failed(str(error), 1)
    except (Interrupted, KeyboardInterrupt) as error:
        return console.failed(str(error) or f"stopped{hint}", 130)
    return 0


@contextmanager
def reported(run: RunState, folder: Path, epochs: int) -> Iterator[None]:
    """Print the files of the run at its end, or add to any error its place, and how to resume if that helps.

    Raises Failed or Interrupted.
    """
    try:
        yield
        console.log_files(folder)
    except (Interrupted, KeyboardInterrupt) as error:
        raise Interrupted(f"stopped; {console.resume_hint(folder)}") from error
    except (ValueError, ArithmeticError, Failed, OSError, MemoryError) as error:
        place = f"epoch {run.epoch + 1}, step {run.step + 1}: " if run.epoch < epochs else ""
        advice, again = "", isinstance(error, ArithmeticError | Failed)  # resumed, the run would fail again
        if isinstance(error, FloatingPointError):
            advice = "; a new run with a lower --learning-rate may prevent it"
        hint = console.resume_hint(folder, "") if again else console.resume_hint(folder)
        raise Failed(f"{place}{error}{advice}; {hint}") from error


def start_run(
    settings: Any, model: Network, config: Any, corpus: Any, folder: Path, stack: ExitStack
) -> tuple[RunState, Layout]:
    """Draw or load the initial weights of a run, then make and lock its folder.

    Returns the state, without carried or optimizer state, and the layout. Raises ValueError for a folder that
    holds a run, and for initial weights that do not fit.
    """
    params, layout, rng = init_params(model, config, settings.run)
    if settings.run.init:
        params = load_initial_params(Path(settings.run.init), layout, corpus, settings.run.dtype)
    stack.enter_context(new_folder(folder))
    return RunState(params, {}, rng, all_alive(layout, model.spaces(layout.axes))), layout


def resume_run(
    folder: Path, settings: Options, recorder: Recorder, stack: ExitStack, free: set[str]
) -> tuple[RunState, str]:
    """Lock the folder of a run and load its last checkpoint. Returns the state and the hash of its corpus.

    Raises ValueError if the settings differ from the run's in more than MAY_CHANGE and `free`.
    """
    stack.enter_context(run_lock(folder))
    run, about = load_last(folder, recorder)
    if missing := {"settings", "corpus"} - about.keys():
        raise ValueError(f"{folder}: expected a checkpoint with its settings, got one without {sorted(missing)}")
    if changed := settings.changed(type(settings).from_dict(about["settings"])) - MAY_CHANGE - free:
        raise ValueError(f"--resume: expected the run's own settings, got other values for {sorted(changed)}")
    return run, about["corpus"]


def check_corpus(corpus: Any, sha256: str) -> None:
    """Raise ValueError unless the corpus has this hash."""
    if corpus.sha256 != sha256:
        raise ValueError(f"--resume: expected the corpus with sha256 {sha256}, got {corpus.sha256}")


def next_epoch(run: RunState, recorder: Recorder, folder: Path, save: Callable[[], None], epochs: int) -> None:
    """Print the last row, advance to the next epoch, write what was measured and a checkpoint, release memory."""
    console.log_epoch(recorder.rows[-1], epochs)
    trim_malloc()
    run.epoch, run.step = run.epoch + 1, 0
    write_json(folder / "metrics.jsonl", recorder.rows)
    write_json(folder / history.FILE, recorder.history)
    save()


def begin_saving(
    folder: Path, run: RunState, recorder: Recorder, settings: Options, corpus: Any
) -> Callable[[], None]:
    """Save the run for the first time, start its clock, and return a function that saves it again.

    The checkpoint before is kept: it is the one that was resumed if the last is damaged. config.json is written
    after the checkpoint: a folder with config.json can be resumed.
    """
    remove_partial(folder)
    about = {"settings": settings.to_dict(), "corpus": corpus.sha256}
    save_run(folder / LAST, run, recorder, **about)
    save = partial(save_last, folder, run, recorder, **about)
    write_json(folder / "config.json", settings.to_dict())
    recorder.start_clock()
    return save


def with_full_paths(settings: Any, *names: str) -> Any:
    """Return the settings with these files and folders by their full paths, so that --resume finds them."""
    values = settings.flat()
    return settings.replaced(**{name: str(Path(values[name]).resolve()) for name in names if values[name]})
