"""Write a run's report as one HTML file, or a comparison of several runs.

python -m issref.report RUN                     RUN/report.html
python -m issref.report RUN --against DENSE     the same, with the curve and the score of a dense run
python -m issref.report RUN1 RUN2 ...           a comparison: report.html in the folder above RUN1
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from issref.report.page import comparison_page, run_page
from issref.report.run import Run, labelled, read_run
from issref.report.texts import labels
from issref.training.checkpoint import write_whole
from issref.training.console import failed, log, prepare_streams

PROGRAM = "python -m issref.report"


@dataclass(frozen=True)
class Command:
    """Write a run's report as one HTML file, or a comparison of several runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of one or more runs."""
    against: Path | None = None
    """Folder of a dense run, whose curve and score the page of one run shows too."""
    out: Path | None = None
    """File to write; RUN/report.html if not given, or report.html in the folder above the first of several."""


def report(folders: tuple[Path, ...], out: Path | None = None, against: Path | None = None) -> Path:
    """Write the page of one run, or of several, and return its path.

    Raises ValueError if a folder holds no run or a damaged one, if the runs have different measures or texts, or
    if `against` is not a dense run.
    """
    if not folders:
        raise ValueError("RUN: expected the folder of a run, got none")
    first, *others = folders
    if against and others:
        raise ValueError(f"--against: expected one RUN, got {len(folders)}")
    runs, twin = [read_run(folder) for folder in folders], read_run(against) if against else None
    if others:
        out, page = out or first.resolve().parent / "report.html", comparison_page(labels(labelled(runs)))
    else:
        out, page = out or first / "report.html", run_page(runs[0], twin)
    _check_one_text([*runs, *([twin] if twin else [])])
    if twin and (method := twin.settings.get("method")) != "dense":
        raise ValueError(f"--against: expected a run with --method dense, got {method}")
    write_whole(out, page.encode(errors="backslashreplace"))
    return out


def _check_one_text(runs: Sequence[Run]) -> None:
    """Raise ValueError if finished runs were scored on different texts."""
    found = [(run.name, (run.result or {}).get("corpus", {}).get("sha256")) for run in runs]
    texts = {sha256: name for name, sha256 in found if sha256}
    if len(texts) > 1:
        several = " and ".join(texts.values())
        raise ValueError(f"RUN: expected runs on one text to compare, got different ones in {several}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Exit codes: 0, 2 for bad input."""
    prepare_streams()
    try:
        command = tyro.cli(Command, args=arguments, prog=PROGRAM)
        log(f"written: {report(command.runs, command.out, command.against)}")
    except (ValueError, OSError) as error:
        return failed(str(error), 2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
