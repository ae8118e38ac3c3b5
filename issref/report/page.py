"""A report as one HTML file: nothing to download, figures inline as SVG, one script of its own for the player."""

import hashlib
import io
import re
from base64 import b64encode
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any, NamedTuple
from xml.etree import ElementTree

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import rc_context
from matplotlib.figure import Figure

from issref.report import tables, texts
from issref.report.comparison import Point, all_alive_figure, measures_figure, sizes_figure
from issref.report.curves import AVERAGED, alive_figure, loss_figure, measure_figure, train_curve
from issref.report.history import History, read_history
from issref.report.measures import in_words
from issref.report.player import cursor, pictures, player_data
from issref.report.reproduce import command, nearest
from issref.report.run import Run, Weights, read_weights
from issref.report.style import COLOURS, DEAD, INK, LINE, MUTED, RUN_STYLE, Rows
from issref.report.weights import before_after_figure, matrices_with_groups, norms_figure

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
THEME = {INK: "currentColor", MUTED: "var(--muted)", LINE: "var(--line)", DEAD: "var(--dead)"} | {
    colour: f"var(--c{number})" for number, colour in enumerate(COLOURS, 1)
}
ENVIRONMENT = Environment(
    loader=PackageLoader("issref.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


WINDOW = f"The training curve is the mean over the last {AVERAGED:.0%} of an epoch."


def run_page(run: Run, twin: Run | None = None) -> str:
    """Return the page of a run, compared with a dense run, its twin, if given.

    Raises ValueError if its history or the file of its model is damaged, or for a twin with another measure.
    """
    weights = read_weights(run)
    return ENVIRONMENT.get_template("run.html").render(
        run=run,
        tables=tables,
        texts=texts,
        sentences=texts.sentences(run, twin),
        figures=_training(run, twin) if run.rows else [],
        player=_player(read_history(run), run) if run.rows else None,
        weights=_matrices(weights) if weights else {},
        norms=_norms(weights) if weights else "",
        command=_command(run),
        module=nearest(run.settings),
        **_script(),
    )


def player_page(run: Run, twin: Run | None = None) -> str:
    """Return a page with a run's title, its main result and its player, which plays once when it is opened."""
    return ENVIRONMENT.get_template("alone.html").render(
        run=run,
        texts=texts,
        figures=_training(run, twin),
        player=_player(read_history(run), run),
        **_script(),
    )


def comparison_page(runs: Mapping[str, Run]) -> str:
    """Return the page that compares runs by label. Raises ValueError if the runs have different measures."""
    measures = {run.measure.name: label for label, run in runs.items() if run.rows}
    if len(measures) > 1:
        found = ", ".join(f"{name} in {label}" for name, label in measures.items())
        raise ValueError(f"RUN: expected runs with one measure to compare, got {found}")
    short = _shortened(list(runs))
    begun = {short[label]: run.rows for label, run in runs.items() if run.rows}
    return ENVIRONMENT.get_template("comparison.html").render(
        runs=runs,
        policy="",
        table=tables.comparison_table(runs),
        figures=[figure for figure in (_sizes(runs, short), *(_comparison(begun) if begun else ())) if figure],
    )


def inline(figure: Figure, name: str, alt: str) -> str:
    """Return a figure as an SVG element with an alternative text, in the colours of the page's theme."""
    content = io.BytesIO()
    with rc_context(RUN_STYLE):
        figure.savefig(content, format="svg", transparent=True)
    root = ElementTree.fromstring(content.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.partition("}")[2] in ("metadata", "style"):
                parent.remove(child)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "img", "aria-label": alt}
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return _themed(_prefix_ids(ElementTree.tostring(root, encoding="unicode"), name))


def _prefix_ids(text: str, name: str) -> str:
    """Remove every id without a reference, and prefix the others with the figure's name."""
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text)
    return re.sub(r'(url\(|href=")#', rf"\1#{name}-", text)


def _themed(text: str) -> str:
    for colour, variable in THEME.items():
        text = text.replace(colour.lower(), variable)
    return text


def defined(text: str) -> str:
    """Return a text as HTML in which the first use of each term shows its definition on hover and on focus."""
    found = escape(text)
    for term, note in texts.TERMS.items():
        marked = f'<span class="term" tabindex="0" data-note="{escape(note)}">{term}</span>'
        found = re.sub(rf"(?<![\w-]){term}(?![^<]*>)\b", lambda _, marked=marked: marked, found, count=1)
    return found


ENVIRONMENT.filters["defined"] = defined


class Plot(NamedTuple):
    """A figure of training: the SVG, its caption, and the place of its axes as CSS lengths."""

    svg: str
    caption: str
    place: str


def _training(run: Run, twin: Run | None) -> list[Plot]:
    name, rows = run.measure.name, run.rows
    if twin and twin.measure != run.measure:
        raise ValueError(f"--against: expected a run with {name}, got one with {twin.measure.name}")
    figures = [
        (
            measure_figure(rows, twin and twin.rows),
            texts.describe_measure(rows),
            f"{name} while the network trains. {WINDOW}",
        ),
        (alive_figure(rows, run.sizes), texts.describe_alive(rows), "Components that still have weights."),
    ]
    if run.measure.rising and train_curve(rows)[1]:
        figures.append((loss_figure(rows), texts.describe_loss(rows), f"The loss of a training step. {WINDOW}"))
    names = ("measure", "alive", "loss")
    return [
        Plot(inline(figure, name, alt), caption[:1].upper() + caption[1:], cursor(figure))
        for name, (figure, alt, caption) in zip(names, figures, strict=False)
    ]


def _player(history: History | None, run: Run) -> dict[str, Any] | None:
    """Return what the template of the player needs; None for a run without a history."""
    if history is None:
        return None
    pooled = history.bins.sizes != history.layout.sizes
    return {"data": player_data(run, history), "pictures": pictures(history), "pooled": pooled}


def _script() -> dict[str, str]:
    """Return the script of the player, and the hash by which the page's policy allows it and no other."""
    script = files("issref.report").joinpath("templates/player.js").read_text(encoding="utf-8")
    digest = hashlib.sha256(script.encode()).digest()
    return {"script": script, "policy": f"script-src 'sha256-{b64encode(digest).decode()}'"}


def _shortened(labels: list[str]) -> dict[str, str]:
    """Return the labels, if they differ, as their last 20 characters: the margin of a figure is narrow."""
    short = {label: label if len(label) <= 20 else f"…{label[-19:]}" for label in labels}
    return short if len({*short.values()}) == len(labels) else {label: label for label in labels}


def _comparison(runs: Mapping[str, Rows]) -> list[str]:
    measures = " ".join(f"{label}: {texts.describe_measure(rows)}" for label, rows in runs.items())
    left = " ".join(f"{label}: {texts.describe_alive(rows)}" for label, rows in runs.items())
    return [inline(measures_figure(runs), "measure", measures), inline(all_alive_figure(runs), "alive", left)]


def _matrices(weights: Weights) -> dict[str, str]:
    """Return the figure of each matrix, before and after compaction, by name."""
    return {
        array: inline(
            before_after_figure(array, weights.full, weights.small, weights.norms),
            f"weights{index}",
            _describe_matrix(array, weights),
        )
        for index, array in enumerate(matrices_with_groups(weights.full[1], weights.norms))
    }


def _describe_matrix(array: str, weights: Weights) -> str:
    values, (rows, columns) = weights.full[0][array], weights.small[0][array].shape
    zeros = f"{100 * (values == 0).mean():.0f}" if values.size else "0"
    return (
        f"Absolute weights of {array}: {values.shape[0]} by {values.shape[1]} before, {zeros} % exactly zero, "
        f"and {rows} by {columns} after dead rows and columns are removed."
    )


def _norms(weights: Weights) -> str:
    return inline(norms_figure(weights.norms), "norms", texts.describe_norms(weights.norms))


def _command(run: Run) -> str:
    """Return the command line that repeats this run; empty for settings of another version."""
    try:
        return command(run.settings)
    except ValueError:
        return ""


def _sizes(runs: Mapping[str, Run], short: Mapping[str, str]) -> str:
    """Return the figure of size against the measure of all finished runs, on the test text if all have it."""
    results = {label: run.result for label, run in runs.items() if run.result}
    measure = next(iter(runs.values())).measure
    keys = (measure.test, measure.valid)
    key = next((key for key in keys if all(key in result for result in results.values())), None)
    if not results or key is None:
        return ""
    points: dict[str, tuple[Point, Point]] = {}
    for label, result in results.items():
        full, small = ((result["parameters"][one], result[key][one]) for one in tables.BOTH)
        points[short[label]] = (full, small)
    words = (f"{label}, {small[0]:,} parameters, {small[1]:.4g}" for label, (_, small) in points.items())
    alt = f"Parameters of the compact models against {in_words(key)}: {'; '.join(words)}."
    return inline(sizes_figure(points, in_words(key)), "sizes", alt)
