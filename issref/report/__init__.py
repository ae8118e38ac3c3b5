"""Reports of runs: figures as PNG files, and a page in one file (python -m issref.report RUN)."""

import io
from collections.abc import Mapping
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from issref.iss.groups import group_norms, iss_groups
from issref.iss.layout import Layout, Params
from issref.report.comparison import comparison_figure
from issref.report.curves import training_figure
from issref.report.style import COLOURS, RUN_STYLE, STYLE, Rows
from issref.report.weights import norms_figure, weights_figure
from issref.training.checkpoint import write_whole

__all__ = ["COLOURS", "STYLE", "compare_training", "draw_run"]


def draw_run(folder: Path, rows: Rows, params: Params, layout: Layout) -> list[Path]:
    """Draw training.png, weights.png and norms.png in a run's folder, each atomically."""
    groups = iss_groups(layout, rows[-1]["alive"])
    norms = groups.split(group_norms(params, groups))
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
    with rc_context(RUN_STYLE):
        figure.savefig(content, format="png")
    write_whole(path, content.getvalue())
    return path
