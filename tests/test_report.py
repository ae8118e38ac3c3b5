"""The figures of a run: that they are written, and that what they show is what the numbers say."""

import math
import struct
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from issref import group_norms, iss_groups, report, zero_dead
from issref.models import ptb_lstm as model


def network(sizes=(20, 20), dead=(10, 6), words=2000, seed=1):
    """Params with dead components, their layout and the norms of their groups."""
    rng = np.random.default_rng(seed)
    config = model.Config(vocabulary=words, embed_size=20, hidden_sizes=sizes)
    layout = model.layout(config)
    living = {f"lstm{i}": rng.permutation(n) >= gone for i, (n, gone) in enumerate(zip(sizes, dead, strict=True))}
    params = zero_dead(model.initial(config, layout, rng, np.float32), layout, living)
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
    monkeypatch.setitem(report.STYLE, "figure.dpi", 40)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_the_three_files_are_written_whole(tmp_path):
    params, layout, norms = network()
    paths = report.draw_run(tmp_path, metrics(), params, layout, norms)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["norms.png", "training.png", "weights.png"]
    assert {path.parent for path in paths} == {tmp_path}
    for path in paths:
        assert_png(path)


def test_comparison_is_written(tmp_path):
    path = report.compare_training({"dense": metrics(final=(20, 20)), "ISS": metrics()}, tmp_path / "compare.png")
    assert_png(path)


def assert_png(path):
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert content[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", content[16:24])
    assert width == 1500
    assert 500 < height < 2500
    assert len(content) < 3_000_000


def test_training_labels_and_shares_the_epochs():
    _, layout, _ = network()
    above, below = report.training_figure(metrics(), layout).axes
    assert texts(above) == ["train 80.04", "valid 116.7"]
    assert texts(below) == ["lstm0: 10 of 20", "lstm1: 14 of 20"]
    assert above.get_xlim() == below.get_xlim() == (0, 3)
    assert below.get_ylim()[0] == 0
    np.testing.assert_array_equal(above.lines[1].get_xydata(), [[1, 150], [2, 125], [3, 350 / 3]])
    np.testing.assert_array_equal(below.lines[0].get_xydata()[-1], [3, 10])


def test_the_first_windows_do_not_squash_the_picture():
    _, layout, _ = network()
    above = report.training_figure(metrics(), layout).axes[0]
    assert above.get_ylim()[1] < 1000
    train = above.lines[0].get_ydata()
    assert np.isnan(train).sum() == 2 * 3  # steps 1 and 10 of 120
    assert np.nanmax(train) < 10_000


def test_ticks_are_plain_numbers_on_a_log_axis():
    _, layout, _ = network()
    figure = report.training_figure(metrics(), layout)
    figure.canvas.draw()
    above = figure.axes[0]
    low, high = above.get_ylim()
    shown = [tick.get_text() for tick in above.get_yticklabels() if low <= float(tick.get_text()) <= high]
    assert above.get_yscale() == "log"
    assert shown == ["100", "200"]


def test_labels_keep_their_distance():
    alike = metrics(final=(12, 12))
    below = report.comparison_figure({"a": alike, "b": alike, "c": alike}).axes[1]
    heights = [text.get_position()[1] for text in below.texts]
    assert len(heights) == 6
    assert np.diff(sorted(heights)).min() > 0.1


def test_a_comparison_has_one_colour_for_each_run():
    figure = report.comparison_figure({"dense": metrics(final=(20, 20)), "ISS": metrics()})
    above, below = figure.axes
    assert sorted(texts(above)) == ["ISS 116.7", "dense 116.7"]
    assert texts(below)[:2] == ["ISS, lstm0: 10", "ISS, lstm1: 14"]
    assert sorted(texts(below)[2:]) == ["dense, lstm0: 20", "dense, lstm1: 20"]
    assert len({line.get_color() for line in above.lines + below.lines}) == 2


def test_weights_show_each_grouped_matrix_with_its_zeros():
    params, layout, norms = network()
    *panels, key = report.weights_figure(params, layout, norms).axes
    titles = [axes.get_title(loc="left") for axes in panels]
    assert [title.split()[0] for title in titles] == ["lstm0/kernel", "lstm1/kernel", "softmax/kernel"]
    for title in titles:
        assert f"{100 * np.mean(params[title.split()[0]] == 0):.0f} % zero" in title
    assert "2,000" in titles[2]
    assert ["drawn as" in title for title in titles] == [False, False, True]
    assert "exactly zero" in texts(key)


def test_segments_are_named_from_the_layout():
    *panels, _ = report.weights_figure(*network()).axes
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
    image = report.weights_figure(params, layout, norms).axes[2].images[0]
    blank = np.ma.getmaskarray(image.get_array())
    assert blank.shape == (20, 667)
    np.testing.assert_array_equal(blank.all(axis=1), norms["lstm1"] == 0)
    np.testing.assert_array_equal(blank.any(axis=1), norms["lstm1"] == 0)


def test_large_layers_keep_their_share_of_dead_rows():
    params, layout, norms = network(sizes=(300, 20), dead=(200, 0), words=30)
    image = report.weights_figure(params, layout, norms).axes[0].images[0].get_array()
    assert all(length <= most for length, most in zip(image.shape, report.CELLS, strict=True))
    dead_columns = np.ma.getmaskarray(image).all(axis=0)
    assert dead_columns.mean() == pytest.approx(2 / 3, abs=0.05)


def test_exact_zeros_have_a_colour_of_their_own():
    params, layout, norms = network()
    image = report.weights_figure(params, layout, norms).axes[0].images[0]
    colours = image.cmap(np.linspace(0, 1, 256))
    zero = np.array(to_rgba(report.ZERO))
    np.testing.assert_allclose(image.cmap(np.ma.masked_all(1))[0], zero)
    assert np.abs(colours - zero).sum(axis=1).min() > 0.3


def test_tiny_weights_are_not_drawn_as_zero():
    params, layout, norms = network()
    alive = params["lstm0/kernel"] != 0
    params["lstm0/kernel"] = params["lstm0/kernel"] * np.where(np.arange(80) < 1, np.float32(1e-20), np.float32(1))
    shown = report.weights_figure(params, layout, norms).axes[0].images[0].get_array()
    np.testing.assert_array_equal(~np.ma.getmaskarray(shown), alive)


def test_norms_are_sorted_and_count_the_dead():
    _, _, norms = network()
    axes = report.norms_figure(norms).axes[0]
    assert [text.strip() for text in texts(axes)] == ["lstm0: 10 of 20 dead", "lstm1: 6 of 20 dead"]
    curve, mark = axes.lines[:2]
    assert np.all(np.diff(curve.get_ydata()) <= 0)
    assert np.count_nonzero(curve.get_ydata() == 0) == 10
    assert mark.get_xdata()[0] == 10.5
    assert axes.get_ylim()[0] == 0


@pytest.mark.parametrize("sizes", [(0, 20), (20, 0), (0, 0), (1, 1)])
def test_narrow_layers_are_drawn(tmp_path, coarse, sizes):
    params, layout, norms = network(sizes=sizes, dead=(0, 0), words=50)
    rows = metrics(epochs=2, full=sizes, final=sizes)
    assert len(report.draw_run(tmp_path, rows, params, layout, norms)) == 3


def test_one_epoch_of_one_window_is_drawn(tmp_path, coarse):
    params, layout, norms = network(words=50)
    row = metrics(epochs=1)[0]
    row["trace"] = [{**row["trace"][-1], "step": 1}]
    assert len(report.draw_run(tmp_path, [row], params, layout, norms)) == 3


@pytest.mark.parametrize("factor", [0, 1])
def test_all_dead_and_all_equal_weights_are_drawn(tmp_path, coarse, factor):
    params, layout, norms = network(words=50)
    params = {array: np.full_like(values, factor) for array, values in params.items()}
    norms = {space: np.full_like(values, factor) for space, values in norms.items()}
    assert len(report.draw_run(tmp_path, metrics(), params, layout, norms)) == 3


def test_a_run_that_diverged_is_drawn(tmp_path, coarse):
    params, layout, norms = network(words=50)
    rows = metrics(epochs=2)
    rows[1]["valid_perplexity"] = math.exp(700)
    assert len(report.draw_run(tmp_path, rows, params, layout, norms)) == 3


def test_more_layers_than_colours():
    figure = report.norms_figure({f"lstm{i}": np.arange(5.0) for i in range(8)})
    assert len(figure.axes[0].texts) == 8


def test_no_global_state_of_matplotlib_is_touched():
    import matplotlib

    before = dict(matplotlib.rcParams)
    report.norms_figure({"lstm0": np.arange(5.0)})
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")  # another test may have loaded it
    assert pyplot is None or not pyplot.get_fignums()
