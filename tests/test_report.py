"""The figures of a run and its page: that they are written, and that what they show is what the numbers say."""

import base64
import json
import math
import os
import re
import shlex
import shutil
import stat
import struct
import sys
from html import escape
from html.parser import HTMLParser

import numpy as np
import pytest
from browser import chromium
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgba

from issref import compact, group_norms, iss_groups, report, train_ptb, zero_dead
from issref.models import LANGUAGE_MODELS
from issref.models import ptb_lstm as model
from issref.ptb.settings import PRESETS, Settings
from issref.report import comparison, curves, style, weights
from issref.report import texts as texts_of
from issref.report.__main__ import main
from issref.report.reproduce import command
from issref.report.run import Run
from issref.squad.settings import SquadSettings
from issref.training import checkpoint
from issref.training.checkpoint import write_json


def network(sizes=(20, 20), dead=(10, 6), words=2000, seed=1):
    """Params with dead components, their layout and the norms of their groups."""
    rng = np.random.default_rng(seed)
    config = model.Config(vocabulary=words, embed_size=20, hidden_sizes=sizes)
    layout = model.layout(config)
    living = {f"lstm{i}": rng.permutation(n) >= gone for i, (n, gone) in enumerate(zip(sizes, dead, strict=True))}
    params = zero_dead(model.init_params(config, layout, rng, np.float32), layout, living)
    groups = iss_groups(layout, model.spaces(layout.axes))
    return params, layout, groups.split(group_norms(params, groups))


def metrics(epochs=3, windows=120, full=(20, 20), final=(10, 14)):
    """Rows as a run writes them: the first perplexity of each trace is that of a single window."""
    rows = []
    for epoch in range(epochs):
        trace = []
        for step in [1, *range(10, windows + 1, 10)]:
            past = (epoch + step / windows) / epochs
            alive = {
                f"lstm{i}": round(n + (k - n) * past) for i, (n, k) in enumerate(zip(full, final, strict=True))
            }
            perplexity = (
                10_000.0 if epoch == 0 and step == 1 else 80 + 300 * math.exp(-3 * (epoch + step / windows))
            )
            trace.append({"step": step, "train_perplexity": perplexity, "alive": alive})
        last = {key: trace[-1][key] for key in ("train_perplexity", "alive")}
        valid = 100 + 50 / (epoch + 1)
        rows.append({"epoch": epoch + 1, "valid_perplexity": valid, "seconds": 1.0, "trace": trace, **last})
    return rows


@pytest.fixture
def coarse(monkeypatch):
    """Few pixels: quicker."""
    monkeypatch.setitem(report.RUN_STYLE, "figure.dpi", 40)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_the_three_files_are_written_whole(tmp_path):
    params, layout, _ = network()
    paths = report.draw_run(tmp_path, metrics(), params, layout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["norms.png", "training.png", "weights.png"]
    assert {path.parent for path in paths} == {tmp_path}
    for path in paths:
        assert_png(path)


def test_the_norms_that_are_drawn_are_those_of_the_params(tmp_path, coarse, monkeypatch):
    params, layout, norms = network()
    drawn = []
    for name in ("weights_figure", "norms_figure"):
        figure = getattr(report, name)
        monkeypatch.setattr(
            report, name, lambda *given, figure=figure: (drawn.append(given[-1]), figure(*given))[1]
        )
    report.draw_run(tmp_path, metrics(), params, layout)
    for found in drawn:
        assert found.keys() == norms.keys()
        for space, values in norms.items():
            np.testing.assert_array_equal(found[space], values)
    assert len(drawn) == 2


def test_comparison_is_written(tmp_path):
    path = report.compare_training({"dense": metrics(final=(20, 20)), "ISS": metrics()}, tmp_path / "compare.png")
    assert_png(path)


def assert_png(path):
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert content[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", content[16:24])
    assert width in (980, 1500)
    assert 500 < height < 2500
    assert len(content) < 3_000_000


def test_training_labels_and_shares_the_epochs():
    _, layout, _ = network()
    above, below = curves.training_figure(metrics(), layout.sizes).axes
    assert texts(above) == ["train 79.92", "valid 116.7"]
    assert texts(below) == ["lstm0: 10 of 20", "lstm1: 14 of 20"]
    assert above.get_xlim() == below.get_xlim() == (0, 3)
    assert below.get_ylim()[0] == 0
    np.testing.assert_array_equal(above.lines[1].get_xydata(), [[1, 150], [2, 125], [3, 350 / 3]])
    np.testing.assert_array_equal(below.lines[0].get_xydata()[-1], [3, 10])


def test_the_first_windows_do_not_squash_the_picture():
    _, layout, _ = network()
    above = curves.training_figure(metrics(), layout.sizes).axes[0]
    assert above.get_ylim()[1] < 1000
    epochs, train = above.lines[0].get_data()
    assert 0.1 <= epochs[0] < 0.2  # the first point with a window of 12 steps
    assert train.max() < 10_000


@given(st.lists(st.lists(st.floats(0.1, 8), min_size=1, max_size=60), min_size=1, max_size=4), st.data())
def test_the_training_curve_is_the_mean_of_the_losses_of_the_last_tenth_of_an_epoch(losses, data):
    rows = []
    for number, epoch in enumerate(losses):
        marked = data.draw(st.sets(st.integers(1, len(epoch)))) | {len(epoch)}
        trace = [
            {"step": s, "train_perplexity": math.exp(np.mean(epoch[:s])), "alive": {}} for s in sorted(marked)
        ]
        rows.append({"epoch": number + 1, "valid_perplexity": 1.0, "trace": trace})
    every, width = np.concatenate(losses), max(1, round(0.1 * len(losses[0])))
    ends = np.cumsum([0, *map(len, losses)])
    points = [0, *(ends[row["epoch"] - 1] + point["step"] for row in rows for point in row["trace"])]
    drawn = iter(zip(*curves.train_curve(rows), strict=True))
    for end in points[1:]:
        starts = [start for start in points if start <= end - width]
        if starts:
            x, mean = next(drawn)
            epoch = np.searchsorted(ends, end)
            assert x == pytest.approx(epoch - 1 + (end - ends[epoch - 1]) / len(losses[epoch - 1]))
            window = every[starts[-1] : end]  # the longest sum is of 240 losses of at most 8, twice
            assert math.log(mean) == pytest.approx(window.mean(), abs=4 * 240**2 * 8 * 2.0**-53)
    assert not [*drawn]


def test_each_cut_is_a_tick():
    rows = metrics()
    rows[1]["cuts"] = [{"step": 30}, {"step": 90}]
    _, layout, _ = network()
    ticks = curves.alive_figure(rows, layout.sizes).axes[0].lines[-1]
    assert ticks.get_xdata().tolist() == [1.25, 1.75]
    assert ticks.get_marker() == "|"


def test_a_dense_run_has_a_line_of_its_own():
    dense = [{**row, "valid_perplexity": 90.0 + row["epoch"]} for row in metrics()]
    (axes,) = curves.measure_figure(metrics(), dense).axes
    assert texts(axes) == ["train 79.92", "dense 93", "valid 116.7"]
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[1, 91], [2, 92], [3, 93]])


def test_ticks_are_plain_numbers_on_a_log_axis():
    _, layout, _ = network()
    figure = curves.training_figure(metrics(), layout.sizes)
    figure.canvas.draw()
    above = figure.axes[0]
    low, high = above.get_ylim()
    shown = [tick.get_text() for tick in above.get_yticklabels() if low <= float(tick.get_text()) <= high]
    assert above.get_yscale() == "log"
    assert shown == ["70", "100", "200"]


def test_labels_keep_their_distance():
    alike = metrics(final=(12, 12))
    below = comparison.comparison_figure({"a": alike, "b": alike, "c": alike}).axes[1]
    heights = [text.get_position()[1] for text in below.texts]
    assert len(heights) == 6
    assert np.diff(sorted(heights)).min() > 0.1


def test_a_comparison_has_one_colour_for_each_run():
    figure = comparison.comparison_figure({"dense": metrics(final=(20, 20)), "ISS": metrics()})
    above, below = figure.axes
    assert sorted(texts(above)) == ["ISS 116.7", "dense 116.7"]
    assert texts(below)[:2] == ["ISS, lstm0: 10", "ISS, lstm1: 14"]
    assert sorted(texts(below)[2:]) == ["dense, lstm0: 20", "dense, lstm1: 20"]
    assert len({line.get_color() for line in above.lines + below.lines}) == 2


def test_weights_show_each_grouped_matrix_with_its_zeros():
    params, layout, norms = network()
    *panels, key = weights.weights_figure(params, layout, norms).axes
    titles = [axes.get_title(loc="left") for axes in panels]
    assert [title.split()[0] for title in titles] == ["lstm0/kernel", "lstm1/kernel", "softmax/kernel"]
    for title in titles:
        assert f"{100 * np.mean(params[title.split()[0]] == 0):.0f} % zero" in title
    assert "2,000" in titles[2]
    assert ["drawn as" in title for title in titles] == [False, False, True]
    assert "exactly zero" in texts(key)


def test_models_are_told_apart_by_the_number_of_their_gates():
    assert len(weights.GATES) == len(LANGUAGE_MODELS)


def test_segments_are_named_from_the_layout():
    *panels, _ = weights.weights_figure(*network()).axes
    rows, columns = (
        [label.get_text() for label in side.get_ticklabels()] for side in (panels[0].yaxis, panels[0].xaxis)
    )
    assert rows == ["embed 20", "lstm0\n10 of 20\nalive"]
    assert columns == [f"lstm0, {gate} gate" for gate in ("input", "candidate", "forget", "output")]
    assert panels[0].get_xticks().tolist() == [10, 30, 50, 70]
    assert panels[2].get_xticklabels()[0].get_text() == "word 2,000 (the largest of every 3)"


def test_dead_rows_stay_visible_when_the_words_are_pooled():
    params, layout, norms = network()
    params["softmax/kernel"][:, 1::3] = 0  # a pixel of three words is zero only if all three are
    image = weights.weights_figure(params, layout, norms).axes[2].images[0]
    blank = np.ma.getmaskarray(image.get_array())
    assert blank.shape == (20, 667)
    np.testing.assert_array_equal(blank.all(axis=1), norms["lstm1"] == 0)
    np.testing.assert_array_equal(blank.any(axis=1), norms["lstm1"] == 0)


def test_large_layers_keep_their_share_of_dead_rows():
    params, layout, norms = network(sizes=(300, 20), dead=(200, 0), words=30)
    image = weights.weights_figure(params, layout, norms).axes[0].images[0].get_array()
    assert all(length <= most for length, most in zip(image.shape, weights.CELLS, strict=True))
    dead_columns = np.ma.getmaskarray(image).all(axis=0)
    assert dead_columns.mean() == pytest.approx(2 / 3, abs=0.05)


def test_exact_zeros_have_a_colour_of_their_own():
    params, layout, norms = network()
    image = weights.weights_figure(params, layout, norms).axes[0].images[0]
    colours = image.cmap(np.linspace(0, 1, 256))
    zero = np.array(to_rgba(style.ZERO))
    np.testing.assert_allclose(image.cmap(np.ma.masked_all(1))[0], zero)
    assert np.abs(colours - zero).sum(axis=1).min() > 0.3


def test_tiny_weights_are_not_drawn_as_zero():
    params, layout, norms = network()
    alive = params["lstm0/kernel"] != 0
    params["lstm0/kernel"] = params["lstm0/kernel"] * np.where(np.arange(80) < 1, np.float32(1e-20), np.float32(1))
    shown = weights.weights_figure(params, layout, norms).axes[0].images[0].get_array()
    np.testing.assert_array_equal(~np.ma.getmaskarray(shown), alive)


def test_the_histogram_counts_every_component_once_and_the_dead_apart():
    _, _, norms = network()
    panels = weights.norms_figure(norms).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["lstm0: 10 of 20 alive", "lstm1: 14 of 20 alive"]
    assert [texts(axes)[0].strip() for axes in panels] == ["10 dead", "6 dead"]
    for axes, dead in zip(panels, (10, 6), strict=True):
        *bars, last = axes.patches
        assert sum(bar.get_height() for bar in bars) == 20 - dead
        assert (last.get_height(), last.get_facecolor()) == (dead, to_rgba(style.DEAD))
        assert last.get_x() + 2 * last.get_width() < min(bar.get_x() for bar in bars)
        centre = last.get_x() + last.get_width() / 2
        assert panels[-1].get_xticks()[0] == pytest.approx(centre)
    assert panels[-1].get_xticklabels()[0].get_text() == "exactly 0"


def before_and_after(sizes=(20, 20), dead=(10, 6)):
    """The figure's axes of lstm1/kernel, and the norms."""
    params, layout, norms = network(sizes, dead)
    left = compact(params, layout, {space: values > 0 for space, values in norms.items()})
    figure = weights.before_after_figure("lstm1/kernel", (params, layout), left, norms)
    figure.draw_without_rendering()
    return *figure.axes[:2], norms


def test_dead_rows_and_columns_are_marked_at_the_edges():
    before, _, norms = before_and_after()
    rows, columns = (~np.ma.getmaskarray(strip.images[0].get_array()) for strip in before.child_axes)
    np.testing.assert_array_equal(rows[:, 0], np.concatenate([norms["lstm0"], norms["lstm1"]]) == 0)
    np.testing.assert_array_equal(columns[0], np.tile(norms["lstm1"] == 0, 4))


def test_no_marks_where_nothing_died():
    before, after, _ = before_and_after(dead=(0, 0))
    assert not before.child_axes
    np.testing.assert_allclose(after.get_position().size, before.get_position().size)


def test_what_is_left_is_drawn_to_the_same_scale():
    before, after, _ = before_and_after()
    np.testing.assert_allclose(after.get_position().size / before.get_position().size, (14 / 20, 24 / 40))
    assert not np.ma.getmaskarray(after.images[0].get_array()).any()
    assert after.get_title(loc="left") == "after: 24 × 56, 0 % zero"


def test_sizes_against_the_measure_show_both_models_of_each_run():
    figure = comparison.sizes_figure(
        {"a": ((200, 9.0), (100, 9.1)), "b": ((50, 12.0), (50, 12.0))}, "test perplexity"
    )
    (axes,) = figure.axes
    assert sorted(texts(axes)) == ["a", "b"]
    np.testing.assert_array_equal([line.get_xydata()[0] for line in axes.lines[1:3]], [(200, 9), (100, 9.1)])
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    low, high = axes.get_ylim()
    assert heights["b"] == pytest.approx((12 - low) / (high - low))


@pytest.mark.parametrize("sizes", [(0, 20), (20, 0), (0, 0), (1, 1)])
def test_narrow_layers_are_drawn(tmp_path, coarse, sizes):
    params, layout, _ = network(sizes=sizes, dead=(0, 0), words=50)
    rows = metrics(epochs=2, full=sizes, final=sizes)
    assert len(report.draw_run(tmp_path, rows, params, layout)) == 3


def test_one_epoch_of_one_window_is_drawn(tmp_path, coarse):
    params, layout, _ = network(words=50)
    row = metrics(epochs=1)[0]
    row["trace"] = [{**row["trace"][-1], "step": 1}]
    assert len(report.draw_run(tmp_path, [row], params, layout)) == 3


@pytest.mark.parametrize("factor", [0, 1])
def test_all_dead_and_all_equal_weights_are_drawn(tmp_path, coarse, factor):
    params, layout, _ = network(words=50)
    params = {array: np.full_like(values, factor) for array, values in params.items()}
    assert len(report.draw_run(tmp_path, metrics(), params, layout)) == 3


def test_a_run_that_diverged_is_drawn(tmp_path, coarse):
    params, layout, _ = network(words=50)
    rows = metrics(epochs=2)
    rows[1]["valid_perplexity"] = math.exp(700)
    assert len(report.draw_run(tmp_path, rows, params, layout)) == 3


def test_more_layers_than_colours():
    figure = weights.norms_figure({f"lstm{i}": np.arange(5.0) for i in range(8)})
    assert len(figure.axes) == 8


def test_no_global_state_of_matplotlib_is_touched():
    import matplotlib

    before = dict(matplotlib.rcParams)
    weights.norms_figure({"lstm0": np.arange(5.0)})
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")  # another test may have loaded it
    assert pyplot is None or not pyplot.get_fignums()


# ---------------------------------------------------------------- the page

RESULT = {
    "components": {"full": {"lstm0": 20, "lstm1": 20}, "compact": {"lstm0": 10, "lstm1": 14}},
    "parameters": {"full": 93600, "compact": 64120},
    "multiply_adds": {"full": 46400, "compact": 32112},
    "valid_perplexity": {"full": 116.66666, "compact": 116.66667},
    "test_perplexity": {"full": 120.5, "compact": 120.5},
    "cuts": {"count": 16, "max_output_difference": 2e-6},
    "max_output_difference": 3.8e-6,
    "largest_logit": 20.7,
    "compared_words": 10000,
    "seconds": {"train": 90.0, "evaluate_full": 6.0, "evaluate_compact": 4.0},
    "corpus": {"name": "Penn TreeBank", "sha256": "0b6c7d63", "vocabulary": 2000, "train": 929589},
    "finished": "2026-01-31 10:15",
    "versions": {"issref": "0.1.0", "python": "3.11.7", "numpy": "2.4.6", "machine": "Linux x86_64, 2 cores"},
}
RUN = Settings().replaced(hidden_sizes=(20, 20), epochs=3, strength=(0.003, 0.0024), corpus="ptb", seed=7)


def write_run(folder, options=RUN, rows=None, result=RESULT, drawn=True):
    """A run's folder, as far as it is given: a finished one."""
    folder.mkdir(parents=True)
    write_json(folder / "config.json", options.to_dict())
    if rows is None or rows:
        write_json(folder / "metrics.jsonl", rows or metrics())
    if result:
        write_json(folder / "result.json", {**result, "settings": options.to_dict()})
    if drawn:
        params, layout, norms = network()
        alive = {space: values > 0 for space, values in norms.items()}
        small, left = compact(params, layout, alive)
        kept = {space: values.tolist() for space, values in alive.items()}
        checkpoint.save(folder / "model.safetensors", small, layout=json.loads(left.to_json()), alive=kept)
    return folder


EMPTY = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """What a page holds: its text, its tables by caption, its tags with their attributes; tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.tables, self.svg = [], [], "", {}, ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)
        if tag == "table":
            self.rows, self.caption = [], ""
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self.tables[self.caption] = self.rows

    def handle_data(self, data):
        if "style" in self.open:
            return
        data = data.replace("\N{NO-BREAK SPACE}", " ")
        self.text += data
        if "svg" in self.open:
            self.svg += data + " "
        if "caption" in self.open:
            self.caption += data
        elif {"th", "td"} & {*self.open}:
            self.rows[-1][-1] += data.strip()

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def reported(*arguments):
    """The page that the command writes, beside the first run if no --out is given."""
    assert main([str(argument) for argument in arguments]) == 0
    first = arguments[0]
    path = first / "report.html" if len(arguments) == 1 else first.parent / "report.html"
    return path.read_text()


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """The page of a whole run, whose folder's name needs escaping."""
    return reported(write_run(tmp_path_factory.mktemp("runs") / "a <b>run & more"))


@pytest.fixture(scope="session")
def page(source):
    return Page(source)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (RUN.replaced(penalty_epochs=2), "prox, strength 0.003 and 0.0024, to epoch 2, then dense"),
        (
            RUN.replaced(penalty_epochs=2, final_penalty_scale=0.4),
            "prox, strength 0.003 and 0.0024, to epoch 2, then 0.4 of it",
        ),
        (RUN.replaced(method="dense", penalty_epochs=2), "dense"),
        (
            SquadSettings().replaced(strength=(6.0,), penalty_steps=305),
            "prox, strength 6.0, to step 305, then dense",
        ),
    ],
)
def test_the_method_is_told_with_its_last_epoch_or_step(options, said, tmp_path):
    assert texts_of.about(Run(tmp_path, options.flat(), [], None, {}, ""))["Method"] == said


def test_runs_on_different_texts_or_a_twin_that_is_not_dense_are_refused(tmp_path, capsys):
    one, other = (
        write_run(tmp_path / name, result={**RESULT, "corpus": {**RESULT["corpus"], "sha256": name}}, drawn=False)
        for name in ("one", "other")
    )
    for words in ([one, other], [one, "--against", other]):
        assert main([str(word) for word in words]) == 2
        assert (
            "RUN: expected runs on one text to compare, got different ones in one and other"
            in capsys.readouterr().err
        )
    assert main([str(one), "--against", str(one)]) == 2
    assert "--against: expected a run with --method dense, got prox" in capsys.readouterr().err


def test_the_header_says_what_ran_and_when(page):
    said = " ".join(page.text.split())
    for words in (
        "a <b>run & more",
        "LSTM of 20 and 20 units, embedding 20, trained down to 10 + 14",
        "trained on Penn TreeBank for 3 epochs with ISS (prox, the exact proximal step), in 1.5 minutes.",
        "The compact model has test perplexity 120.50.",
        "It needs 1.4 times fewer multiply-adds and was evaluated 1.5 times as fast.",
        "prox, strength 0.003 and 0.0024",
        "Seed7",
        "finished 2026-01-31 10:15",
        "issref 0.1.0, python 3.11.7, numpy 2.4.6",
        "Linux x86_64, 2 cores",
        "Of 20 + 20 components 10 + 14 are left: \N{MINUS SIGN}31 % parameters, \N{MINUS SIGN}31 % multiply-adds.",
        "Over 10,000 words the outputs of the full and the compact model differ by at most 3.8e-06",
        "cut out 16 times",
    ):
        assert words in said


def test_the_result_table_is_the_result(page):
    less = "\N{MINUS SIGN}"
    assert page.tables["The full model and the compact one"] == [
        ["", "full", "compact", "change"],
        ["components, lstm0", "20", "10", f"{less}50 %"],
        ["components, lstm1", "20", "14", f"{less}30 %"],
        ["parameters", "93,600", "64,120", f"{less}31 %"],
        ["multiply-adds a word", "46,400", "32,112", f"{less}31 %"],
        ["valid perplexity", "116.667", "116.667", "+1.0e-05"],
        ["test perplexity", "120.500", "120.500", "0"],
        ["seconds to evaluate", "6.0", "4.0", f"{less}33 %"],
    ]


def test_the_time_is_split_over_parts_and_epochs(page):
    assert [row[:3] for row in page.tables["Seconds of each part"][1:]] == [
        ["train", "90.0", "90 %"],
        ["evaluate full", "6.0", "6 %"],
        ["evaluate compact", "4.0", "4 %"],
    ]
    head, *rows = page.tables["Each epoch"]
    assert head[:7] == ["epoch", "rate", "train", "valid", "alive, lstm0", "alive, lstm1", "seconds"]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert rows[-1][2:6] == ["80.04", "116.67", "10", "14"]


def test_every_figure_is_there_with_words_for_who_cannot_see_it(page):
    figures = page.named("svg")
    assert all(attributes["role"] == "img" for attributes in figures)
    said = [attributes["aria-label"] for attributes in figures]
    assert said[0] == (
        "perplexity over 3 epochs: validation 150 after the first, 116.7 after the last, training 80.04."
    )
    assert said[1] == "Components alive: lstm0 from 20 to 10, lstm1 from 20 to 14."
    assert [words.split()[3] for words in said[2:5]] == ["lstm0/kernel:", "lstm1/kernel:", "softmax/kernel:"]
    assert "40 by 80 before, 62 % exactly zero, and 30 by 40 after" in said[2]
    assert (
        said[5]
        == "Histogram of the norms of the groups: lstm0, 10 of 20 exactly zero; lstm1, 6 of 20 exactly zero."
    )
    assert len(said) == 6


def test_the_words_in_the_figures_are_text(page):
    for words in (
        "lstm0: 10 of 20",
        "valid 116.7",
        "before: 40 × 80",
        "after: 30 × 40",
        "10 dead",
        "exactly zero",
    ):
        assert words in page.svg


def test_the_images_in_the_figures_are_the_matrices(page):
    sizes = []
    for attributes in page.named("image"):
        content = base64.b64decode(attributes["xlink:href"].removeprefix("data:image/png;base64,"))
        sizes.append(struct.unpack(">II", content[16:24]))
    assert {(80, 40), (40, 30), (80, 1), (1, 40), (56, 24), (667, 20), (667, 14)} <= set(sizes)


def test_nothing_is_loaded_from_elsewhere(source, page):
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "embed", "img"})
    for _, attributes in page.tags:
        for name, value in attributes.items():
            if name in ("href", "src", "srcset", "xlink:href", "data", "poster", "action"):
                assert value.startswith(("#", "data:"))
    assert all(place.startswith("#") for place in re.findall(r"url\(([^)]*)\)", source))
    assert "@import" not in source
    (policy,) = [each["content"] for each in page.named("meta") if "http-equiv" in each]
    assert policy.startswith("default-src 'none'")


def test_ids_are_unique_and_what_refers_to_one_finds_it(source, page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', source)) == set(ids)


def test_the_page_is_plain_html_with_headings_and_headers(source, page):
    assert source.startswith("<!DOCTYPE html>")
    assert page.named("html") == [{"lang": "en"}]
    assert any(each.get("name") == "viewport" for each in page.named("meta"))
    assert len(page.named("h1")) == 1
    assert all(attributes.get("scope") in ("row", "col") for attributes in page.named("th"))
    assert len(page.named("table")) == len(page.tables) == len(page.named("caption")) == 4
    assert len(page.named("table")) == len(page.named("thead"))
    assert len(source) < 500_000


def test_the_page_is_the_same_each_time(tmp_path, source):
    assert reported(write_run(tmp_path / "a <b>run & more")) == source


def test_the_page_says_how_to_reproduce(page):
    line = command(RUN.flat())
    assert line in page.text
    assert train_ptb.parse(shlex.split(line)[3:]).settings == RUN
    assert "0b6c7d63" in page.text


numbers = st.floats(1e-5, 0.5)
options = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(["prox", "released", "l1", "dense"]),
        "strength": numbers.map(lambda value: (value,)),
        "shrink": st.booleans(),
        "learning_rate": numbers,
        "tied": st.booleans(),
        "transform_bias": st.floats(-3, 3),
        "drops": st.tuples(numbers, numbers, numbers, numbers),
        "corpus": st.sampled_from(["ptb", "a folder/of 'text'"]),
        "data_dir": st.none() | st.just("/data $HOME"),
        "seed": st.integers(0, 2**31),
        "threads": st.none() | st.integers(1, 4),
        "dtype": st.sampled_from(["float32", "float64"]),
    },
)


@settings(max_examples=8)
@given(preset=st.sampled_from(sorted(PRESETS)), changes=options)
def test_the_command_gives_back_exactly_the_settings(preset, changes):
    wanted = PRESETS[preset].replaced(**changes)
    line = shlex.split(command(wanted.flat()))
    assert line[:3] == ["python", "-m", "issref.train_ptb"]
    assert train_ptb.parse(line[3:]).settings == wanted


@pytest.mark.parametrize("preset", PRESETS)
def test_the_command_of_a_preset_is_its_name(preset):
    assert command(PRESETS[preset].flat()) == f"python -m issref.train_ptb --preset {preset}"


@pytest.mark.parametrize(("kind", "module"), [(Settings(), "train_ptb"), (SquadSettings(), "train_squad")])
def test_settings_of_another_version_are_said_not_to_be_those_of_their_command(tmp_path, kind, module):
    folder = write_run(tmp_path / "run", rows=[], result=None, drawn=False)
    fields = kind.to_dict()
    fields["schedule"]["momentum"] = 0.9
    write_json(folder / "config.json", fields)
    page = " ".join(re.sub("</?code>", "", reported(folder)).split())
    assert f"These are not the settings of issref.{module} in this version" in page


def test_the_command_of_bidaf():
    line = command(SquadSettings().replaced(hidden_size=50, shrink=False).flat())
    assert line == "python -m issref.train_squad --preset paper --hidden-size 50 --no-shrink"


# ---------------------------------------------------------------- runs of other kinds


def test_a_run_that_is_not_finished(tmp_path):
    page = Page(reported(write_run(tmp_path / "run", rows=metrics(epochs=2), result=None, drawn=False)))
    assert "This run is not finished: 2 epochs done, 3 epochs planned." in page.text
    assert "no model.safetensors" in page.text
    assert len(page.named("svg")) == 2
    assert list(page.tables) == ["Each epoch", "Settings of the run"]


def test_a_run_before_its_first_epoch_has_ended(tmp_path):
    page = Page(reported(write_run(tmp_path / "run", rows=[], result=None, drawn=False)))
    assert "0 epochs done, 3 epochs planned" in page.text
    assert "No epoch has ended yet" in page.text
    assert not page.named("svg")


def test_a_run_that_went_on_after_its_result(tmp_path):
    folder = write_run(tmp_path / "run", drawn=False)
    write_json(folder / "config.json", RUN.replaced(epochs=5).to_dict())
    assert "The result is of 3 epochs; the run was resumed for 5." in Page(reported(folder)).text


def test_a_run_in_which_nothing_died(tmp_path):
    same = {"full": {"lstm0": 20, "lstm1": 20}, "compact": {"lstm0": 20, "lstm1": 20}}
    result = {**RESULT, "components": same, "parameters": {"full": 5, "compact": 5}}
    page = Page(reported(write_run(tmp_path / "run", result=result, drawn=False)))
    assert "No component was removed." in page.text
    assert page.tables["The full model and the compact one"][1] == ["components, lstm0", "20", "20", "0 %"]


def as_bidaf(rows):
    """The rows of a run that is judged by F1."""
    kept = ("epoch", "seconds", "alive")
    return [
        {key: row[key] for key in kept}
        | {"valid_f1": 70.0 + row["epoch"]}
        | {"trace": [{key: point[key] for key in ("step", "alive")} for point in row["trace"]]}
        for row in rows
    ]


BIDAF = {key: RESULT[key] for key in ("components", "parameters", "seconds", "versions")} | {
    "dev_f1": {"untrained": 2.0, "full": 73.25, "compact": 73.25},
    "dev_em": {"untrained": 0.0, "full": 61.5, "compact": 61.5},
}


def test_bidaf_is_judged_by_f1(tmp_path):
    folder = write_run(
        tmp_path / "run", SquadSettings().replaced(steps=600), as_bidaf(metrics()), BIDAF, drawn=False
    )
    page = Page(reported(folder))
    assert "perplexity" not in page.text.lower()
    assert (
        page.named("svg")[0]["aria-label"] == "F1 over 3 epochs: validation 71 after the first, 73 after the last."
    )
    assert ["dev F1", "73.250", "73.250", "0"] in page.tables["The full model and the compact one"]
    assert ["dev exact match", "61.500", "61.500", "0"] in page.tables["The full model and the compact one"]
    assert "python -m issref.train_squad --preset paper --steps 600" in page.text
    assert "BiDAF of 100 units" in page.text


def test_runs_are_compared(tmp_path):
    runs = [
        write_run(tmp_path / "iss", drawn=False),
        write_run(tmp_path / "x" / "young", result=None, drawn=False),
    ]
    page = Page(reported(*runs))
    assert (tmp_path / "report.html").is_file()
    (head, first, second) = page.tables["Measures of the compact models"]
    assert head[:4] == ["run", "components", "parameters", "change"]
    assert first[:4] == ["iss", "20 + 20 → 10 + 14", "64,120", "\N{MINUS SIGN}31 %"]
    assert first[head.index("test perplexity")] == "120.50"
    assert first[head.index("method")] == "prox 0.003, 0.0024"
    assert second[:2] == ["young", "not finished"]
    sizes, measure, alive = (attributes["aria-label"] for attributes in page.named("svg"))
    assert sizes == "Parameters of the compact models against test perplexity: iss, 64,120 parameters, 120.5."
    assert measure.count("over 3 epochs") == 2
    assert "young: Components alive: lstm0 from 20 to 10" in alive
    assert "young 116.7" in page.svg


def test_a_run_is_compared_with_its_dense_twin(tmp_path, capsys):
    folder = write_run(tmp_path / "iss", drawn=False)
    scores = {key: {"full": 119.0, "compact": 119.0} for key in ("valid_perplexity", "test_perplexity")}
    dense = write_run(tmp_path / "dense", RUN.replaced(method="dense"), result={**RESULT, **scores}, drawn=False)
    assert main([str(folder), "--against", str(dense)]) == 0
    page = Page((folder / "report.html").read_text())
    assert "The compact model has test perplexity 120.50, the dense network 119.00: 1.50 worse." in page.text
    assert "dense 116.7" in page.svg
    reader = write_run(tmp_path / "reader", SquadSettings(), as_bidaf(metrics()), BIDAF, drawn=False)
    assert main([str(folder), "--against", str(reader)]) == 2
    assert "--against: expected a run with perplexity, got one with F1" in capsys.readouterr().err
    assert main([str(folder), str(dense), "--against", str(dense)]) == 2
    assert "--against: expected one RUN, got 2" in capsys.readouterr().err


def test_compared_runs_are_named_by_the_settings_in_which_they_differ(tmp_path):
    options = [RUN, RUN.replaced(method="dense"), RUN.replaced(strength=(0.1,)), RUN.replaced(seed=3)]
    runs = [write_run(tmp_path / f"r{n}", one, drawn=False) for n, one in enumerate(options)]
    (table,) = Page(reported(*runs)).tables.values()
    expected = ["ISS 0.003 + 0.0024, seed 7", "dense, seed 7", "ISS 0.1, seed 7", "ISS 0.003 + 0.0024, seed 3"]
    assert [row[0] for row in table[1:]] == expected


def test_terms_are_defined_where_they_are_first_used_for_the_keyboard_too(page, source):
    terms = [each for each in page.named("span") if each.get("class") == "term"]
    assert len(terms) >= 4
    assert all(each["tabindex"] == "0" and each["data-note"].endswith(".") for each in terms)
    assert source.count(">components</span>") == source.count(">perplexity</span>") == 1


def test_bidaf_has_a_curve_of_its_training_loss(tmp_path):
    rows = as_bidaf(metrics())
    for row in rows:
        for point in row["trace"]:
            point["train_loss"] = 9.0 - row["epoch"]
    folder = write_run(tmp_path / "run", SquadSettings(), rows, BIDAF, drawn=False)
    page = Page(reported(folder))
    assert "training loss (moving average)" in page.svg
    assert "train 6" in page.svg


def test_runs_of_one_name_are_told_apart(tmp_path, capsys):
    runs = [write_run(tmp_path / place / "run", drawn=False) for place in "ab"]
    assert main([*map(str, runs), "--out", str(tmp_path / "both.html")]) == 0
    assert capsys.readouterr().out == f"written: {tmp_path / 'both.html'}\n"
    (table,) = Page((tmp_path / "both.html").read_text()).tables.values()
    assert [row[0] for row in table[1:]] == ["a/run", "b/run"]


@pytest.mark.parametrize(
    "name", ["a$b$c", "$", "\x1b[31mred\x07", "line\nbreak", "\udcff", "a<b>&'", "x" * 200, "{}%s"]
)
def test_any_name_of_a_folder_is_drawn_as_it_can_be_printed(name, tmp_path, coarse, capsys):
    runs = [write_run(tmp_path / name), write_run(tmp_path / "other", drawn=False)]
    assert main([str(runs[0]), "--out", str(tmp_path / "one.html")]) == 0
    assert main([*map(str, runs), "--out", str(tmp_path / "both.html")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert all(map(str.isprintable, said))
    shown = name.encode("ascii", "backslashreplace").decode() if name == "\udcff" else name
    shown = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in shown)
    page = Page((tmp_path / "one.html").read_text())
    assert shown in page.text
    both = Page((tmp_path / "both.html").read_text())
    assert shown in both.text
    assert shown[-19:] in both.svg  # a label at the end of its curve, unharmed


def test_two_long_names_with_one_end_are_both_drawn(tmp_path):
    runs = [write_run(tmp_path / f"{letter}-with-one-and-the-same-end", drawn=False) for letter in "ab"]
    sizes, measure, alive = (each["aria-label"] for each in Page(reported(*runs)).named("svg"))
    for words in (sizes, measure, alive):
        assert all(f"{letter}-with-one-and-the-same-end" in words for letter in "ab")


def test_a_full_model_that_is_too_large_to_draw_is_refused(tmp_path, capsys, monkeypatch):
    folder = write_run(tmp_path / "run")
    monkeypatch.setattr("issref.report.run.MOST", 1000)
    assert main([str(folder)]) == 2
    assert "expected a full model of at most 1,000 weights, got " in capsys.readouterr().err


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("victim"), os.mkfifo, os.mkdir])
def test_a_report_replaces_files_only(make, tmp_path, capsys):
    (tmp_path / "victim").write_text("mine")
    make(out := tmp_path / "report.html")
    assert main([str(write_run(tmp_path / "run", drawn=False)), "--out", str(out)]) == 2
    assert f"{out}: expected a regular file, got a " in capsys.readouterr().err
    assert (tmp_path / "victim").read_text() == "mine"
    assert not stat.S_ISREG(out.lstat().st_mode)


# ---------------------------------------------------------------- what is no run


def no_folder(folder):
    shutil.rmtree(folder)


def damaged(name, text):
    return lambda folder: (folder / name).write_bytes(text)


def changed_rows(**changes):
    """The second row is another."""

    def spoil(folder):
        first, second, *others = metrics()
        write_json(folder / "metrics.jsonl", [first, {**second, **changes}, *others])

    return spoil


def changed_result(**changes):
    return lambda folder: write_json(folder / "result.json", {**RESULT, "settings": {}, **changes})


def changed_model(**changes):
    def spoil(folder):
        arrays, about = checkpoint.load(folder / "model.safetensors")
        checkpoint.save(folder / "model.safetensors", arrays, **(about | changes))

    return spoil


WRONG = {
    "no folder": (no_folder, "expected the folder of a run, got one without config.json"),
    "settings": (damaged("config.json", b"{"), "config.json: expected JSON, got Invalid JSON"),
    "settings, deep": (damaged("config.json", b"[" * 100_000), "config.json: expected JSON, got Invalid JSON"),
    "settings, a list": (damaged("config.json", b"[]"), "config.json: expected an object, got []"),
    "settings, a name": (
        damaged("config.json", b'{"a": {"epochs": "3"}}'),
        "epochs: expected a valid integer, got '3'",
    ),
    "settings, a pipe": (
        lambda folder: ((folder / "config.json").unlink(), os.mkfifo(folder / "config.json")),
        "config.json: expected a regular file, got a pipe",
    ),
    "result, cut short": (damaged("result.json", b'{"components": {'), "result.json: expected JSON, got Invalid"),
    "result, no text": (damaged("result.json", b"\xff\xfe"), "result.json: expected JSON, got Invalid JSON"),
    "result, empty": (damaged("result.json", b"{}"), "result.json, components: expected a value, got none"),
    "result, a word": (
        changed_result(dev_f1={"full": 1.0, "compact": "x"}),
        "result.json, dev_f1.compact: expected a valid number, got 'x'",
    ),
    "result, other spaces": (
        changed_result(components={"full": {"a": 1}, "compact": {"b": 1}}),
        "result.json, components: expected the spaces ['a'], got ['b']",
    ),
    "metrics": (
        damaged("metrics.jsonl", b'{"epoch": 1}\n{'),
        "metrics.jsonl, line 1, alive: expected a value, got",
    ),
    "metrics, deep": (damaged("metrics.jsonl", b"[" * 100_000), "metrics.jsonl, line 1: expected JSON, got Inva"),
    "another measure": (
        lambda folder: write_json(
            folder / "metrics.jsonl", [{k: v for k, v in metrics()[0].items() if k != "valid_perplexity"}]
        ),
        "expected one of ['valid_perplexity', 'valid_f1']",
    ),
    "no trace": (changed_rows(trace=[]), "metrics.jsonl, line 2, trace: expected "),
    "an epoch twice": (changed_rows(epoch=1), "line 2: expected epoch 2 and its valid_perplexity, got epoch 1 of"),
    "no measure": (
        changed_rows(valid_perplexity="1"),
        "line 2, valid_perplexity: expected a valid number, got '1'",
    ),
    "not finite": (changed_rows(valid_perplexity=math.nan), "line 2, valid_perplexity: expected a"),
    "another space": (
        changed_rows(alive={"lstm0": 1}),
        "line 2, alive: expected the spaces ['lstm0', 'lstm1'], got ['lstm0']",
    ),
    "a space with a control character": (changed_rows(alive={"\x1b[2J": 1}), "line 2, alive"),
    "weights": (damaged("model.safetensors", b"no"), "expected a complete safetensors file"),
    "more components than the run has": (
        changed_model(alive={"lstm0": [True] * 10 + [False] * 60_000, "lstm1": [True] * 14 + [False] * 6}),
        "alive: expected the run's components, {'lstm0': 20, 'lstm1': 20}, got {'lstm0': 60010}",
    ),
    "numbers as masks": (changed_model(alive={"lstm0": [1] * 20}), "alive, lstm0: expected booleans, got [1, 1,"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_run_gets_one_sentence(tmp_path, capsys, kind):
    spoil, said = WRONG[kind]
    spoil(folder := write_run(tmp_path / "run"))
    assert main([str(folder)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not (folder / "report.html").exists()


def test_no_run_and_runs_of_two_measures_get_one_sentence(tmp_path, capsys):
    assert main([]) == 2
    assert "RUN: expected the folder of a run, got none" in capsys.readouterr().err
    language = write_run(tmp_path / "lm", drawn=False)
    reader = write_run(tmp_path / "reader", SquadSettings(), as_bidaf(metrics()), BIDAF, drawn=False)
    assert main([str(language), str(reader)]) == 2
    assert (
        "expected runs with one measure to compare, got perplexity in lm, F1 in reader" in capsys.readouterr().err
    )


# ---------------------------------------------------------------- in a browser

LOOK = """<script>
onload = () => {
  const seen = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, small = [...page.querySelectorAll("svg text")].map(text =>
      parseFloat(getComputedStyle(text).fontSize) * text.ownerSVGElement.getBoundingClientRect().width
      / text.ownerSVGElement.viewBox.baseVal.width);
    return {wide: page.documentElement.scrollWidth, least: Math.min(...small),
      figures: [...page.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect().width)};
  });
  document.body.replaceChildren(Object.assign(document.createElement("pre"), {textContent: JSON.stringify(seen)}));
};
</script>"""


def test_the_page_fits_a_phone_and_a_desktop(tmp_path, source):
    frames = [f'<iframe width="{width}" height="900" srcdoc="{escape(source)}"></iframe>' for width in (390, 1280)]
    (tmp_path / "both.html").write_text(f"<!DOCTYPE html><body>{''.join(frames)}{LOOK}")
    done = chromium(tmp_path, "--dump-dom", (tmp_path / "both.html").as_uri())
    assert "CONSOLE" not in done.stderr  # nothing was refused by the page's policy, nothing failed
    phone, desktop = json.loads(re.search(r"<pre>(.*?)</pre>", done.stdout)[1])
    assert phone["wide"] <= 390
    assert desktop["wide"] <= 1280
    assert len(phone["figures"]) == len(desktop["figures"]) == 6
    assert min(phone["figures"]) > 300
    assert 400 < min(desktop["figures"]) <= max(desktop["figures"]) < 640
    assert phone["least"] >= 8  # pixels: the smallest words in a figure


def test_the_page_prints(tmp_path, source):
    (tmp_path / "report.html").write_text(source)
    chromium(tmp_path, f"--print-to-pdf={tmp_path / 'report.pdf'}", (tmp_path / "report.html").as_uri())
    pages = re.findall(rb"/Type\s*/Page\b", (tmp_path / "report.pdf").read_bytes())
    assert 1 < len(pages) <= 5
