"""Reports of runs: figures as PNG files, and a page in one file (python -m issref.report RUN)."""

import io
from collections.abc import Mapping
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from issref.iss.layout import Layout, Params
from issref.report.curves import comparison_figure, training_figure
from issref.report.style import COLOURS, STYLE, Norms, Rows
from issref.report.weights import norms_figure, weights_figure
from issref.training.checkpoint import write_whole

__all__ = ["COLOURS", "STYLE", "compare_training", "draw_run"]


def draw_run(folder: Path, rows: Rows, params: Params, layout: Layout, norms: Norms) -> list[Path]:
    """Write training.png, weights.png and norms.png into a run's folder, each whole or not at all."""
    figures = {
        "training.png": training_figure(rows, layout.sizes),
        "weights.png": weights_figure(params, layout, norms),
        "norms.png": norms_figure(norms),
    }
    return [_write(figure, folder / name) for name, figure in figures.items()]


def compare_training(runs: Mapping[str, Rows], path: Path) -> Path:
    """Write one figure of the measure and the components alive of several runs, by label."""
    return _write(comparison_figure(runs), path)


def _write(figure: Figure, path: Path) -> Path:
    content = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(content, format="png")
    write_whole(path, content.getvalue())
    return path
