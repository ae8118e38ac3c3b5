"""Colours, sizes and types that all figures share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Rows = Sequence[Mapping[str, Any]]  # the rows of metrics.jsonl, one for each epoch
Norms = Mapping[str, np.ndarray]  # group norms by space

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito, for the colour-blind
INK, MUTED, LINE = "#222222", "#8C8C8C", "#E6E6E6"
ZERO, DEAD = "#F2DDBB", "#C4122F"
WIDE, NARROW = 7.5, 4.9  # inches: of an image file, and of a figure on a page that also fits a phone
STYLE: dict[Any, Any] = {
    "figure.dpi": 200,  # 1500 pixels wide
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "text.color": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": LINE,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.markersize": 4,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "issref",  # the same file each time
}
RUN_STYLE: dict[Any, Any] = {**STYLE, "text.parse_math": False}  # for figures of runs: the $ of a name is a $
