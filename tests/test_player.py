"""The history of a run and the player of its report: what is recorded, and that the page draws just this."""

import base64
import json
import re
import shutil
from html import escape, unescape
from pathlib import Path

import numpy as np
import pytest
from browser import chromium
from hypothesis import given
from hypothesis import strategies as st
from recorded import write_recorded

from issref import Layout, compact
from issref.report.__main__ import main
from issref.report.film import draw_film
from issref.report.history import read_history
from issref.report.page import player_page
from issref.report.run import read_run
from issref.training import history
from issref.training.checkpoint import write_json
from issref.training.state import RunState, all_alive

LAYOUT = Layout({"a": (("x", "u"), ("u", "u")), "b": (("u",), ("v",)), "c": (("~u",),)}, {"x": 3, "u": 5, "v": 2})


def run_of(params, alive, **position):
    return RunState(params, {}, np.random.default_rng(0), alive, **position)


def norms_of(run, layout, full=LAYOUT):
    bins = history.binned(history.lines(full, run.alive))
    return history.read_norms(history.frame(run, layout, 10)["norms"], bins)


# ---------------------------------------------------------------- what is recorded


@given(epochs=st.integers(1, 400), steps=st.integers(1, 200))
def test_at_most_61_steps_are_recorded_the_first_and_the_last_among_them(epochs, steps):
    done = [(e, s) for e in range(epochs) for s in range(1, steps + 1) if history.is_recorded(e, s, steps, epochs)]
    assert len(done) <= 61
    assert done[0] == (0, 1)
    assert done[-1] == (epochs - 1, steps)
    if epochs <= 60:
        assert {(epoch, steps) for epoch in range(epochs)} <= {*done}
    places = np.array([epoch * steps + step for epoch, step in done[1:]])
    assert not places.size or np.ptp(np.diff(places, prepend=0)) <= 1  # evenly spaced


@given(seed=st.integers(0, 99), alive=st.lists(st.booleans(), min_size=5, max_size=5))
def test_the_norms_of_the_compact_params_are_those_of_the_full_ones_with_exact_zeros(seed, alive):
    rng, mask = np.random.default_rng(seed), {"u": np.array(alive)}
    full = {array: rng.normal(size=LAYOUT.shape(array)) for array in LAYOUT.axes}
    for array, axis, segment in LAYOUT.occurrences("u"):
        dead = np.arange(segment.start, segment.stop)[~mask["u"]]
        full[array][(slice(None),) * axis + (dead,)] = 0
    small, layout = compact(full, LAYOUT, mask)
    found = norms_of(run_of(small, mask), layout)
    assert list(found) == ["a/0", "a/1", "b/0", "b/1"]
    for name, values in found.items():
        expected = np.sqrt((full[name[0]] ** 2).sum(axis=1 - int(name[-1])))
        np.testing.assert_array_equal(values == 0, expected == 0)
        np.testing.assert_allclose(values, expected, rtol=2.0**-10)  # a float16 has 11 digits
    kept = norms_of(run_of(full, mask), LAYOUT)  # --no-shrink: dead components stay as zeros
    for name, values in kept.items():
        np.testing.assert_allclose(values, found[name], rtol=2.0**-10)


@pytest.mark.parametrize("tiny", [1e-300, 1e-30, 1e9])
def test_no_weight_is_so_small_that_its_row_is_recorded_as_zero(tiny):
    params = LAYOUT.allocate()
    params["a"][4, 7] = tiny
    found = norms_of(run_of(params, all_alive(LAYOUT, ["u"])), LAYOUT)
    assert np.flatnonzero(found["a/0"]).tolist() == [4]
    assert np.flatnonzero(found["a/1"]).tolist() == [7]
    assert np.isfinite(found["a/0"]).all()


@pytest.mark.parametrize("units", [199, 200, 201, 450, 1500])
def test_wide_layers_are_pooled_and_a_bin_is_zero_only_if_all_of_it_is(units):
    layout = LAYOUT.resized({"u": units})
    params = {array: np.ones(layout.shape(array)) for array in layout.axes}
    params["b"][: units // 2] = 0
    found = norms_of(run_of(params, all_alive(layout, ["u"])), layout, layout)
    rows = found["b/0"]
    assert len(rows) == min(units, 200)
    edges = np.arange(len(rows) + 1) * units // len(rows)
    for first, stop, value in zip(edges, edges[1:], rows, strict=False):
        alive = np.arange(first, stop) >= units // 2
        assert value == pytest.approx(np.sqrt(2 * alive.mean()), rel=2.0**-10)
    assert sum(map(len, found.values())) <= history.VALUES


def test_an_unfinished_run_that_began_with_dead_units_has_its_sizes_from_the_history(tmp_path):
    """After the first step, the units that were dead in its first weights are gone."""
    stored = Path(__file__).parents[1] / "benchmarks" / "results" / "small"
    for name in ("config.json", "history.jsonl"):
        shutil.copy(stored / name, tmp_path)
    rows = [json.loads(line) for line in (stored / "metrics.jsonl").read_text().splitlines()]
    rows[0]["trace"][0]["alive"] = {"lstm0": 78, "lstm1": 140}
    write_json(tmp_path / "metrics.jsonl", rows)
    run = read_run(tmp_path)
    assert run.sizes == {"lstm0": 200, "lstm1": 200}
    assert read_history(run) is not None
    assert main([str(tmp_path)]) == 0
    assert "to be trained" in (tmp_path / "report.html").read_text()


def test_a_network_of_many_matrices_has_a_history_of_bounded_size():
    axes = {f"m{n}": (20 * ("u",), 4 * ("u",)) for n in range(12)}
    layout = Layout(axes, {"u": 100})
    assert (
        sum(history.binned(history.lines(layout, ["u"])).shape(f"m{n}/0")[0] for n in range(12)) <= history.VALUES
    )


# ---------------------------------------------------------------- the page

SIZES = {"sizes": (6, 8), "words": 30}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The folder of a run with a history, without its result."""
    from issref.ptb.settings import PRESETS

    folder = tmp_path_factory.mktemp("recorded") / "run"
    folder.mkdir()
    write_json(folder / "config.json", PRESETS["small"].replaced(hidden_sizes=(6, 8)).to_dict())
    write_recorded(folder, **SIZES)
    return folder


@pytest.fixture(scope="session")
def page(folder):
    assert main([str(folder)]) == 0
    return (folder / "report.html").read_text()


def test_the_page_runs_one_script_and_no_other(page):
    scripts = re.findall(r"<script([^>]*)>", page)
    assert scripts == [' type="application/json" id="history"', ""]
    (policy,) = map(unescape, re.findall(r'Content-Security-Policy" content="([^"]*)"', page))
    assert re.fullmatch(r"default-src 'none'; .*; script-src 'sha256-[\w+/=]{44}'", policy)


def test_a_printed_page_has_no_controls(page):
    printed = page.partition("@media print")[2]
    (hidden,) = re.findall(r"([^{};]*){ display: none; }", printed.partition("</style>")[0])
    found = [each.strip() for each in hidden.split(",")]
    assert found == [".controls button", ".controls input", ".spot", ".hint"]
    assert '<p class="hint">Drag the slider' in page


def test_an_old_run_without_a_history_has_a_page_without_a_player(folder, tmp_path, page):
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert main([str(tmp_path)]) == 0
    old = (tmp_path / "report.html").read_text()
    assert "<script" not in old
    assert old.count("<svg") == page.count("<svg")


OTHER = {"layout": {"axes": {}, "sizes": {"lstm0": 1}}, "spaces": ["lstm0"]}
NAN = base64.b64encode(b"\xff" * 1000).decode()


def with_norms(change):
    """The lines with other norms at the second step."""
    return lambda lines: [*lines[:2], lines[2] | {"norms": change(lines[2]["norms"])}]


WRONG = {
    "no step": (lambda lines: lines[:1], "expected a layout and 1 to 1000 recorded steps, got 0 steps"),
    "no layout": (lambda lines: lines[1:], "line 1, layout: expected a value, got none"),
    "another size": (lambda lines: [OTHER, *lines[1:]], "layout: expected the run's components"),
    "fewer norms": (with_norms(lambda text: text[:8]), "line 3, norms: expected "),
    "no base64": (with_norms(lambda text: "?" + text[1:]), "line 3, norms: expected base64"),
    "not finite": (with_norms(lambda text: NAN[: len(text)]), "line 3, norms: expected finite numbers from 0 up"),
    "a name": (
        lambda lines: [json.loads(json.dumps(lines[0]).replace("embed", "<em>")), *lines[1:]],
        "layout: expected names that can be printed",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_damaged_history_gets_one_sentence(kind, folder, tmp_path, capsys):
    spoil, said = WRONG[kind]
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    write_json(tmp_path / "history.jsonl", spoil(lines))
    assert main([str(tmp_path)]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert said in sentence


def test_the_film_shows_each_second_step_in_less_than_a_megabyte(folder, tmp_path):
    run = read_run(folder)
    draw_film(run, read_history(run), path := tmp_path / "film.gif")
    content = path.read_bytes()
    assert content[:6] == b"GIF89a"
    assert len(content) < 1_000_000
    assert content.count(b"\x21\xf9\x04") == 31  # an extension of each frame; equal ones at the end are one


# ---------------------------------------------------------------- in a browser

DRIVE = f"<script>{(Path(__file__).parent / 'drive_player.js').read_text()}</script>"


@pytest.fixture(scope="session")
def driven(page, tmp_path_factory):
    """What the page shows at two widths while its slider is moved, and without scripts."""
    frames = [f'<iframe width="{width}" height="900" srcdoc="{escape(page)}"></iframe>' for width in (390, 1280)]
    frames.append(
        f'<iframe sandbox="allow-same-origin" width="900" height="900" srcdoc="{escape(page)}"></iframe>'
    )
    folder = tmp_path_factory.mktemp("browser")
    (folder / "all.html").write_text(f"<!DOCTYPE html><body>{''.join(frames)}{DRIVE}")
    done = chromium(folder, "--dump-dom", (folder / "all.html").as_uri())
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert [line for line in said if "sandboxed" not in line and "readback" not in line] == []
    return json.loads(re.search(r"<pre>(.*?)</pre>", done.stdout, re.DOTALL)[1])


@pytest.mark.parametrize("width", ["phone", "desktop"])
def test_the_slider_draws_exactly_the_rows_and_columns_that_are_left(driven, width, folder):
    found, recorded = driven[width], read_history(read_run(folder))
    assert [one["step"] for one in found["steps"]] == [60, 0, 7, 23, 41]
    assert found["wide"] <= {"phone": 390, "desktop": 1280}[width]
    for seen in found["steps"]:
        step = seen["step"]
        assert seen["text"] == seen["said"]
        for space, count in recorded.frames[step]["alive"].items():
            assert f"{space} {count} of {recorded.layout.sizes[space]}" in seen["said"]
        places = [float(place.removesuffix("%")) for place in seen["cursors"]]
        assert places == pytest.approx(2 * [100 * recorded.epochs[step] / 3], abs=1e-3)
        for name, rows in zip(recorded.matrices, seen["drawn"], strict=True):
            alive = [recorded.norms[f"{name}/{axis}"][step] > 0 for axis in (0, 1)]
            expected = ["".join("1" if cell else "0" for cell in row) for row in np.outer(*alive)]
            assert rows == expected, (name, step)


def test_a_component_lights_up_in_all_matrices(driven, folder):
    lit, recorded = driven["desktop"]["lit"], read_history(read_run(folder))
    assert lit["name"] == "lstm0 1"  # the first component of the first space of the rows, then the next
    assert lit["words"].startswith("lstm0, component 1: 6 slices in lstm0/kernel, lstm1/kernel; ")
    for name, rows in zip(recorded.matrices, lit["drawn"], strict=True):
        lines = [
            {
                segment.start + 1
                for segment in recorded.bins.segments(f"{name}/{axis}", 0)
                if segment.space == "lstm0"
            }
            for axis in (0, 1)
        ]
        for number, row in enumerate(rows):
            for place, cell in enumerate(row):
                assert (cell == "2") == (number in lines[0] or place in lines[1])
    assert driven["desktop"]["pointed"] == "lstm1 4"
    assert driven["desktop"]["after"] == ""


def test_the_space_bar_plays_and_pauses(driven):
    for found in (driven["phone"], driven["desktop"]):
        assert (found["playing"], found["paused"]) == ("Pause", "Play")
        assert 41 < found["moved"] <= found["held"] <= 50


def test_without_scripts_the_last_step_stays(driven, folder):
    recorded = read_history(read_run(folder))
    sizes = [[recorded.bins.shape(f"{name}/{axis}")[0] for axis in (1, 0)] for name in recorded.matrices]
    assert driven["bare"] == {"images": sizes, "controls": 0, "canvases": 0}


def test_the_first_page_of_the_site_plays_unless_motion_is_unwanted(folder, tmp_path):
    (tmp_path / "player.html").write_text(player_page(read_run(folder)))
    address = (tmp_path / "player.html").as_uri()
    step = re.compile(r'data-step="(\d+)"')
    calm = chromium(tmp_path, "--force-prefers-reduced-motion", "--dump-dom", address)
    assert step.search(calm.stdout)[1] == "60"
    moving = chromium(tmp_path, "--virtual-time-budget=1500", "--dump-dom", address)
    assert 0 < int(step.search(moving.stdout)[1]) < 60
