"""The benchmarks measure what they say, and RESULTS.md is what the figures kept give."""

import functools
import json
import os
import statistics
import sys
import time
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import get_args
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import (  # noqa: E402
    children,
    comparisons,
    evaluation,
    full_length,
    kept,
    loops,
    memory,
    page,
    pairs,
    projection,
    prox,
    record,
    roofline,
    search,
    shrink,
    steps,
    targets,
    timing,
)
from benchmarks.products import matrix_products, multiplier  # noqa: E402
from benchmarks.words import number  # noqa: E402
from issref import kernels  # noqa: E402
from issref.data.corpus import windows  # noqa: E402
from issref.kernels.inference import weights_are_fixed  # noqa: E402
from issref.models import ptb_lstm as model  # noqa: E402
from issref.ptb.settings import PRESETS  # noqa: E402
from issref.training.options import flattened  # noqa: E402

TINY = PRESETS["zaremba-small"].replaced(hidden_sizes=(4, 3), steps=2, batch=2, embed_size=5)
NAMES = [  # other programs look them up
    "step_small_vs_torch", "step_medium_vs_torch", "step_large_vs_torch", "step_small_vs_matmul",
    "step_large_vs_matmul", "compact_vs_torch", "compact_vs_onnxruntime", "dense_vs_compact",
    "lstm_forward_peak_share", "lstm_backward_peak_share", "prox_share_small", "prox_share_large",
    "shrink_ratio_small", "shrink_ratio_zaremba", "float64_vs_float32", "peak_mb_small", "peak_mb_large",
]  # fmt: skip


@pytest.fixture
def tiny(monkeypatch):
    """Every size is tiny, and turns are short."""
    for module in (steps, roofline):
        monkeypatch.setattr(module, "SIZES", dict.fromkeys(steps.SIZES, TINY))
    for name in ("TURN", "PAUSE"):
        monkeypatch.setattr(timing, name, 0.0)


# what is written
# ---------------


def test_results_are_what_the_kept_figures_give():
    assert (ROOT / "benchmarks" / "RESULTS.md").read_text() == page.written(record.load())


def test_every_stable_name_is_measured_by_a_benchmark_of_the_command():
    assert [target.name for target in targets.TARGETS] == NAMES
    assert {target.benchmark for target in targets.TARGETS} <= set(command.BENCHMARKS)
    assert tuple(command.BENCHMARKS) == get_args(command.Name)
    assert targets.values({}) == dict.fromkeys(NAMES)


@pytest.mark.parametrize("kind", ["AVX-512", "AVX2", "AVX2, simulated"])
@pytest.mark.parametrize("target", targets.TARGETS, ids=lambda target: target.name)
def test_a_bound_is_met_at_itself_and_missed_just_beyond(target, kind):
    bound, beyond = target.bound(kind), 0.999 if target.sign == ">=" else 1.001
    assert bound == target.bounds[0 if kind == "AVX-512" else 1]
    assert target.met(bound, kind)
    assert not target.met(bound * beyond, kind)
    assert page.judged(target, {target.name: bound * beyond}, kind)[1] == "missed"
    assert page.judged(target, {}, kind) == ("not measured", "")


def test_a_partial_run_updates_only_its_own_entries(tmp_path, monkeypatch):
    def keep(kind, name, figure, command):
        monkeypatch.setattr(record, "kind", lambda: kind)
        return record.keep(tmp_path, name, record.entry({figure: 1.0}, command, 1.0, 0.0))

    keep("AVX2", "memory", "peak_mb_small", "first")
    keep("AVX-512", "memory", "peak_mb_small", "first")
    before = keep("AVX2", "prox-small", "prox_share_small", "first")
    after = keep("AVX2", "memory", "peak_mb_large", "second")
    assert after == record.load(tmp_path)
    assert list(after) == ["AVX-512", "AVX2"]
    assert after["AVX-512"] == before["AVX-512"]
    assert after["AVX2"]["prox-small"] == before["AVX2"]["prox-small"]
    renewed = after["AVX2"]["memory"]
    assert (renewed["figures"], renewed["command"]) == ({"peak_mb_large": 1.0}, "second")


@pytest.mark.parametrize(
    ("features", "environment", "kind"),
    [
        ({"avx2": True}, {}, "AVX2"),
        ({"avx2": True}, record.SIMULATED, "AVX2"),  # there it changes nothing
        ({"avx2": True, "avx512f": True}, {}, "AVX-512"),
        ({"avx2": True, "avx512f": True}, record.SIMULATED, "AVX2, simulated"),
        ({}, {}, "arm64"),
    ],
)
def test_the_kind_of_processor(features, environment, kind, monkeypatch):
    processor_of(monkeypatch, features, environment)
    assert record.kind() == kind


@pytest.mark.parametrize("name", record.SIMULATED)
def test_half_a_simulation_is_refused(name, monkeypatch):
    everything_but = {key: value for key, value in record.SIMULATED.items() if key != name}
    for environment in ({name: record.SIMULATED[name]}, everything_but):
        processor_of(monkeypatch, {"avx2": True, "avx512f": True}, environment)
        with pytest.raises(ValueError, match=r"environment: expected none of .* or --simulate-avx2, got"):
            record.kind()


def processor_of(monkeypatch, features, environment):
    """Make this processor one with these features, in this environment."""
    monkeypatch.setattr(record.llvm, "get_host_cpu_features", lambda: features)
    monkeypatch.setattr(record.platform, "machine", lambda: "arm64")
    for name in record.SIMULATED:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_each_kind_has_its_column_bound_and_blas():
    def entries(share, kernel):
        entry = record.entry({"prox_share_small": share, "prox_ms": 1, "step_ms": 9, "sweeps": 1}, "now", 1, 0)
        return {"prox-small": entry | {"versions": entry["versions"] | {"blas": [f"openblas 1, {kernel}, 2"]}}}

    text = page.written({"AVX-512": entries(0.07, "SkylakeX"), "AVX2": entries(0.07, "Haswell")})
    assert "| figure | meaning | target | AVX-512 | AVX2 |" in text
    assert "| at most 8 % / 6 % | 7 %: met | 7 %: missed |" in text
    assert "Kernels of the BLAS: SkylakeX (AVX-512), Haswell (AVX2)." in text
    assert "\n- AVX2, `prox_share_small`: Of the 1.00 ms" in text
    assert "\n- AVX-512" not in text


def finished(method, test, left, model="lstm"):
    """As much of a run's result as the findings read."""
    settings = {"model": model, "method": method, "embed_size": None, "hidden_sizes": [200, 200], "epochs": 13}
    settings |= {"schedule": "decay", "learning_rate": 1.0, "flat_epochs": 4, "decay": 0.5, "seed": 0}
    components = {"full": {"lstm0": 200, "lstm1": 200}, "compact": {"lstm0": left, "lstm1": left}}
    counts = {"compact": 1000 * left}
    return {
        "settings": settings,
        "components": components,
        "parameters": counts,
        "valid_perplexity": {"compact": test + 1},
        "test_perplexity": {"compact": test},
    }


@given(
    dense=st.lists(st.floats(50, 200), min_size=1, max_size=3),
    ours=st.lists(
        st.tuples(st.lists(st.floats(50, 200), min_size=1, max_size=3), st.integers(1, 20)), min_size=1, max_size=5
    ),
)
def test_the_finding_is_the_smallest_network_that_is_no_worse_than_the_dense_ones_mean(dense, ours):
    """Each of ours has its seeds' perplexities, and a strength of its own; of the same seeds, the same units."""
    results = [finished("dense", test, 20) for test in dense]
    for strength, (tests, left) in enumerate(ours):
        for seed, test in enumerate(tests):
            results.append(finished("prox", test, left))
            results[-1]["settings"] |= {"strength": [strength], "seed": seed}
    text, _ = comparisons.findings(results)
    bound = statistics.mean(dense)
    lossless = [(left, len(tests)) for tests, left in ours if statistics.mean(tests) <= bound]
    if lossless:
        fewest = min(left for left, _ in lossless)
        count = next(count for left, count in lossless if left == fewest)
        assert f" has {' and '.join(count * [str(2 * fewest)])} units: " in text
    else:
        assert "The best ISS model, which is worse: " in text
    assert comparisons.findings(results[: len(dense)]) == []  # nothing to compare


def test_a_dense_run_at_widths_that_iss_found_is_direct_design():
    direct = finished("dense", 1.0, 5)
    direct["settings"]["embed_size"] = 30
    assert comparisons.kind(direct) == "lstm direct design"
    found = [
        direct,
        finished("dense", 100, 20),
        finished("prox", 90, 5),
        finished("prox", 80, 6),
        finished("prox", 70, 5),
    ]
    found[-1]["settings"]["flat_epochs"] = 7
    text, _, twin = comparisons.findings(found)
    assert "the dense model has test perplexity 100.00 (one seed)" in text
    assert "On schedules on which no dense model was trained: 70.00 with 98% removed (one seed)." in text
    assert "5 + 5 units trained dense from scratch, has test perplexity 1.00" in twin
    assert "during training, 90.00 (on the" in twin  # the run that found these sizes on the same schedule


def test_a_network_without_a_dense_run_is_compared_with_the_documented_one():
    _, documented = comparisons.NETWORKS["lstm 650 + 650"].documented or (0.0, 0.0)
    better, worse = finished("prox", documented - 1, 5), finished("prox", documented + 1, 4)
    better["valid_perplexity"], worse["valid_perplexity"] = {"compact": 80.0}, {"compact": 90.0}
    worse["settings"] |= {"strength": [9]}
    for one in (better, worse):
        one["components"]["full"] = {"lstm0": 650, "lstm1": 650}
    text, _ = comparisons.findings([better, worse])
    assert "On schedules on which no dense model was trained: " in text
    for one in (better, worse):
        one["settings"] |= {name: PRESETS["zaremba-medium"].flat()[name] for name in comparisons.SCHEDULE}
    text, _ = comparisons.findings([better, worse])
    assert f"the released code documents {documented:.2f} on the test text" in text
    assert f"has 10 units: 99% are removed; test perplexity {documented - 1:.2f} (one seed)" in text
    assert f"The best of the others: {documented + 1:.2f}" in text
    assert comparisons.compared([better, worse], "lstm 200 + 200") is None


def test_runs_are_chosen_on_the_validation_text():
    dense, good, lucky = finished("dense", 100, 20), finished("prox", 101, 6), finished("prox", 50, 5)
    good["valid_perplexity"], lucky["valid_perplexity"] = {"compact": 100.0}, {"compact": 102.0}
    lucky["settings"] |= {"strength": [9]}
    one = comparisons.compared([dense, good, lucky], "lstm 200 + 200")
    assert one is not None
    assert (one.lossless, one.above) == ([good], [lucky])


@given(units=st.integers(1, 650), test=st.floats(60, 100))
def test_a_run_meets_its_target_with_few_enough_units_and_a_low_enough_perplexity(units, test):
    one = finished("prox", test, units)
    one["components"]["full"] = {"lstm0": 650, "lstm1": 650}
    (most, perplexity), (text, _) = comparisons.NETWORKS["lstm 650 + 650"].target, comparisons.findings([one])
    assert text.endswith("Met." if 2 * units <= most and test <= perplexity else "Missed.")


def test_a_dense_run_that_ends_above_its_lowest_perplexity_is_named(tmp_path, monkeypatch):
    for name, valid in {"falls": [9.0, 8.0, 7.0], "rises": [9.0, 7.0, 8.0]}.items():
        (tmp_path / name).mkdir()
        lines = [json.dumps({"valid_perplexity": one}) + "\n" for one in valid]
        (tmp_path / name / "metrics.jsonl").write_text("".join(lines))
    monkeypatch.setattr(full_length, "RUNS", tmp_path)
    text, _ = full_length._overfitting({name: finished("dense", 1, 1) for name in ("falls", "rises")})
    assert text.endswith("(20 rows): rises: 7.00 after epoch 2, 8.00 at the end.")
    assert full_length._overfitting({"falls": finished("dense", 1, 1), "rises": finished("prox", 1, 1)}) == []


def test_a_run_that_has_not_ended_has_a_row_that_says_so(tmp_path, monkeypatch):
    (folder := tmp_path / "half").mkdir()
    settings = TINY.replaced(hidden_sizes=(6, 4), strength=(0.25, 0.5), epochs=9, seed=3)
    (folder / "config.json").write_text(json.dumps(settings.to_dict()))
    last = {"epoch": 2, "valid_perplexity": 77.0, "alive": {"lstm0": 3, "lstm1": 2}}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(last | {"epoch": one}) + "\n" for one in (1, 2)))
    monkeypatch.setattr(full_length, "RUNS", tmp_path)
    assert full_length.unfinished() == ["half"]
    row = "| half: unfinished, 2 of 9 epochs | 0.25 0.5 | 3 | 3 + 2 | 50% |  | 77.00 |  |  |  |  |"
    assert full_length._unfinished_row("half") == row
    (folder / "stopped.txt").write_text("Too strong.\n")
    assert full_length.stopped() == {"half": "Too strong."}
    assert full_length._unfinished_row("half") == row.replace("unfinished", "stopped")


def test_the_papers_points_are_those_of_its_table():
    assert full_length.paper_points() == [(66.0, 78.57), (21.8, 78.65), (25.2, 76.03)]


def test_a_large_run_has_the_median_of_its_last_ten_epochs_and_the_hash_of_its_model(tmp_path, monkeypatch):
    (folder := tmp_path / "big").mkdir()
    ends = [600, 1200, *(1200 + 60 * one for one in range(1, 11))]  # two epochs of ten minutes, ten of one
    lines = [{"seconds": end, "resident_mb": 1000 + number} for number, end in enumerate(ends)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "model.sha256").write_text("0123  model.safetensors\n")
    monkeypatch.setattr(full_length, "RUNS", tmp_path)
    _, _, text, _ = full_length._large_run("big")
    assert "1.0 to 10 minutes, in the median over the last ten 1.0; other" in text
    assert "at most 1,011 MB" in text
    assert text.endswith("`0123`.")


def test_the_hours_of_a_run_include_the_run_that_gave_its_first_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(full_length, "RUNS", tmp_path)
    one = finished("prox", 79.25, 300)
    one["components"]["full"] = {"lstm0": 1500, "lstm1": 1500}
    one["settings"] |= {"threads": 2}
    one["seconds"] = {"train": 3600, "evaluate_full": 9.0, "evaluate_compact": 2.0}
    (folder := tmp_path / "large").mkdir()
    (folder / "result.json").write_text(json.dumps(one))
    assert full_length.minutes("large") == 60
    (folder / "start.json").write_text(json.dumps({"seconds": {"train": 1800}}))
    assert full_length.minutes("large") == 90
    found = {"small": finished("dense", 114, 200), "large": one}
    (sentence,) = full_length.paper_size(found)
    assert sentence.startswith(
        "**1500 + 1500 units trained down to 300 + 300** on 2 CPU cores in at most 1.5 hours:"
    )
    assert sentence.endswith("perplexity 79.25 (the paper's, from memory: 78.65), evaluation 4.5 times as fast.")
    assert full_length.paper_size({"small": finished("prox", 114, 20)}) == []


@pytest.mark.parametrize("name", projection.RUNS)
def test_a_projection_has_the_windows_of_every_epoch(name):
    chosen = projection.RUNS[name].schedule
    text = np.zeros(projection.WORDS, np.int32)
    assert projection.steps(name) == chosen.epochs * len(windows(text, chosen.batch, chosen.steps))
    hours = projection.steps(name) * 500 / 3.6e6
    assert number(hours) in projection.section({"projection": {f"{one}_ms": 500 for one in projection.RUNS}})


# what is measured
# ----------------


@given(
    noise=st.lists(st.floats(0.1, 10), min_size=1, max_size=20), theirs=st.floats(0.1, 10), ours=st.floats(0.1, 10)
)
def test_noise_that_hits_both_sides_alike_leaves_the_ratio(noise, theirs, ours):
    times = {"theirs": [theirs * factor for factor in noise], "ours": [ours * factor for factor in noise]}
    for value in timing.ratio(times, "theirs", "ours", "name").values():
        assert value == pytest.approx(theirs / ours)


def test_the_sides_take_turns(monkeypatch):
    for name in ("TURN", "PAUSE"):
        monkeypatch.setattr(timing, name, 0.0)
    calls = []
    times = timing.interleaved({side: lambda side=side: calls.append(side) for side in "ab"}, 0.0, least=3)
    assert "".join(calls).endswith("ababab")
    assert [len(found) for found in times.values()] == [len(calls) // 2 - 2] * 2


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=3).map(tuple),
    vocabulary=st.integers(1, 50),
    embed=st.integers(1, 20),
    batch=st.integers(1, 5),
    length=st.integers(1, 6),
)
def test_products_are_one_forward_and_two_backward_a_word(sizes, vocabulary, embed, batch, length):
    layout = model.layout(model.Config(vocabulary=vocabulary, embed_size=embed, hidden_sizes=sizes))
    products = matrix_products(layout, length, batch)
    assert sum(product.multiply_adds for product in products) == 3 * model.multiply_adds(layout) * length * batch


def test_the_products_multiply_and_the_step_steps(tiny):
    work = steps.task(TINY, 11)
    multiply, threads = multiplier(matrix_products(work.layout, TINY.schedule.steps, TINY.schedule.batch))
    assert multiply() is None
    assert set(threads) <= set(range(1, timing.THREADS + 1))
    step = steps.training_step(work)
    assert step() == pytest.approx(TINY.schedule.steps * np.log(11), rel=0.05)


def test_every_kernel_is_met_in_a_step_of_a_model():
    widths = [len(settings.network.hidden_sizes) * (4,) for settings in loops.QUICK_RUNS]
    runs = [one.replaced(hidden_sizes=each) for one, each in zip(loops.QUICK_RUNS, widths, strict=True)]
    arguments = loops.recorded(runs, vocabulary=11)
    alone = {"lstm_cell", "lstm_cell_backward"}  # a single step, which the kernels of all steps have inside
    assert set(arguments) == set(prox.kernel_names()) - alone
    for name, given_ in arguments.items():
        getattr(kernels, name)(*given_)


@given(st.data())
def test_sides_in_processes_of_their_own_have_their_best_threads_and_ratios_of_medians(data):
    seconds = st.lists(st.floats(0.1, 10), min_size=pairs.PAIRS, max_size=pairs.PAIRS)
    sides = ("issref", "torch", "onnxruntime")
    best = {side: data.draw(st.sampled_from([1, 2])) for side in sides}
    times = {side: data.draw(seconds) for side in sides}
    left, probed = {side: list(found) for side, found in times.items()}, set()

    def run(arguments):
        _, module, side, work, threads, _ = arguments
        assert (module, work) == ("benchmarks.pairs", "evaluation")
        if (side, threads) not in probed:
            probed.add((side, threads))
            return "1.0" if int(threads) == best[side] else "2.0"
        assert int(threads) == best[side]
        return str(left[side].pop(0))

    with patch.object(children, "run", run), patch.object(pairs, "optional", lambda module: module):
        figures = pairs.measure("evaluation", 1.0)
    assert not any(left.values())
    for side in sides:
        assert figures[f"{side}_threads"] == best[side]
        assert figures[f"{side}_ms"] == pytest.approx(1e3 * statistics.median(times[side]))
        assert figures[f"{side}_least_ms"] == pytest.approx(1e3 * min(times[side]))
    for name, above, below in (("torch", "torch", "issref"), ("onnxruntime", "issref", "onnxruntime")):
        of_medians = statistics.median(times[above]) / statistics.median(times[below])
        assert figures[f"compact_vs_{name}"] == pytest.approx(of_medians)
        quartiles = np.quantile(np.divide(times[above], times[below]), (0.25, 0.75))
        found = [figures[f"compact_vs_{name}/{side}"] for side in ("low", "high")]
        assert found == pytest.approx(list(quartiles))


@pytest.mark.parametrize("work", ["small", "evaluation"])
def test_issref_evaluates_with_fixed_weights_and_a_tuned_malloc(work, monkeypatch):
    seen = []
    monkeypatch.setattr(pairs, "tune_malloc", lambda: seen.append("malloc"))
    monkeypatch.setattr(pairs, "call", lambda module, work: module)
    limit = patch.object(pairs.parallel, "thread_limit", lambda threads: nullcontext(seen.append(threads)))
    with limit, patch.object(pairs, "_median", lambda run, seconds: weights_are_fixed()):
        assert pairs.median("issref", work, 1, 0.0) == (work == "evaluation")
    assert seen == ["malloc", 1]


def test_the_median_in_a_process_of_its_own(tiny, monkeypatch):
    monkeypatch.setattr(evaluation, "weights", lambda sizes: (steps.task(TINY).params, None))
    monkeypatch.setattr(pairs, "tune_malloc", lambda: None)
    for side in ("issref", *(side for side in pairs.MODULES if find_spec(side))):
        assert pairs.median(side, "evaluation", 1, 0.0) > 0


def test_parts_of_the_roofline_add_up_to_the_step_and_count_its_products(tiny):
    work = steps.task(TINY, 11)
    figures = roofline.parts(work, 0.0, least=1)
    parts = [name.removesuffix("/ms") for name in figures if name.endswith("/ms")]
    assert {"lstm, forward", "lstm, backward", "linear_cross_entropy, backward", "lstm_forward"} <= {*parts}
    assert {"sgd", "global_norm"} <= {*parts}
    assert figures["step_ms"] == pytest.approx(sum(figures[f"{part}/ms"] for part in parts))
    products = matrix_products(work.layout, TINY.schedule.steps, TINY.schedule.batch)
    gflop = sum(figures.get(f"{part}/gflop", 0) for part in parts)
    assert gflop == pytest.approx(2e-9 * sum(product.multiply_adds for product in products))


def test_the_time_of_a_kernel_is_not_that_of_its_op_too(tiny, monkeypatch):
    forward, seconds = kernels.lstm_forward, 0.05

    @functools.wraps(forward)
    def slow(*arguments):
        time.sleep(seconds)
        return forward(*arguments)

    monkeypatch.setattr(kernels, "lstm_forward", slow)
    step = steps.training_step(steps.task(TINY, 11))
    step()
    with roofline.clocks() as found:
        step()
    slept = 1e3 * seconds * len(TINY.network.hidden_sizes)
    assert found["lstm_forward/ms"] >= slept > found["lstm, forward/ms"]


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux says what all processes use")
def test_what_children_use_is_not_that_of_others():
    def everybody():
        with patch.object(os, "times", return_value=(0.0,) * 5):
            return record.others_seconds()

    before = everybody(), record.others_seconds()
    children.run(["-c", "import time\nwhile time.process_time() < 0.5: pass"])
    all_of_it, others = everybody() - before[0], record.others_seconds() - before[1]
    assert all_of_it - others >= 0.45


def test_a_childs_peak_is_its_own(tmp_path):
    ours = np.ones(40_000_000)  # 320 MB here are not the child's
    small, large = (
        children.peak_mb(["-c", f"import numpy; numpy.ones({count})"]) for count in (10_000, 10_000_000)
    )
    assert small < 200 < ours.nbytes / 1e6
    assert 60 < large - small < 100


def test_a_child_that_fails_says_why():
    with pytest.raises(ValueError, match=r"code 1 and: KeyError: 'gone'"):
        children.run(["-c", "{}['gone']"])


def run_that_shrank(**settings):
    """A finished run's result and rows: 4 + 3 components, half a second for ten steps."""
    chosen = TINY.replaced(epochs=2, **settings).to_dict()
    components = {"full": {"lstm0": 4, "lstm1": 3}, "compact": {"lstm0": 2, "lstm1": 3}}
    result = {
        "settings": chosen,
        "components": components,
        "seconds": {"train": 0.5},
        "corpus": {"vocabulary": 11},
    }
    rows = [{"trace": [{"step": 5, "alive": components[one]}]} for one in ("full", "compact")]
    return result, rows


def test_shrinking_compares_a_run_with_as_many_dense_steps():
    figures = shrink.ratio("small", *run_that_shrank(), dense=0.1)
    assert figures["shrink_ratio_small"] == pytest.approx(0.5 / (10 * 0.1))
    assert (figures["components_left"], figures["components"]) == (5, 7)
    full, left = 9 * 16 + 7 * 12 + 3 * 11, 7 * 8 + 5 * 12 + 3 * 11
    assert figures["multiply_adds_left"] == pytest.approx((1 + left / full) / 2)


def test_shrinking_reads_only_runs_that_shrank(tmp_path):
    with pytest.raises(ValueError, match="needs a finished run, found none"):
        shrink.read(tmp_path)
    result, rows = run_that_shrank(method="dense")
    (tmp_path / "result.json").write_text(json.dumps(result))
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match="needs a run of an LSTM by --method prox that shrinks"):
        shrink.read(tmp_path)


@pytest.mark.parametrize("side", ["torch_side", "onnx_side"])
@pytest.mark.parametrize("sizes", [(4, 4), (4, 3)])
def test_the_frameworks_models_have_the_same_outputs(side, sizes):
    for package in ("torch",) if side == "torch_side" else ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    work = steps.task(TINY.replaced(hidden_sizes=sizes), 11)
    tokens, state = work.windows[0][0], model.zero_state(work.params, TINY.schedule.batch)
    (ours, _), _ = model.logits(work.params, state, tokens=tokens)
    framework = timing.optional(f"benchmarks.{side}")
    assert framework is not None
    np.testing.assert_allclose(framework.evaluation(work.params, tokens)(), ours, atol=1e-6)


# settings tried on a GPU
# -----------------------


def tried(strength, keep, valid, preset="iss-large", schedule=(14, 1.15)):
    rows = [[epoch + 1, 60.0, value, 3, 4] for epoch, value in enumerate(valid)]
    return {"preset": preset, "strength": strength, "keep": keep, "schedule": [*schedule], "rows": rows}


def test_settings_are_written_with_the_epochs_from_which_they_act():
    assert search.phases([[1, 0.003, 0.0035], [4, 0.0012, 0.0014]]) == "0.003 0.0035; from epoch 4 0.0012 0.0014"
    assert search.rates([14, 1.15]) == "1 to epoch 14, then / 1.15 each"
    assert search.rates("staircase") == "staircase"


def test_the_figure_compares_large_runs_pruned_in_five_epochs_at_one_epoch(monkeypatch):
    falling = [100.0 - epoch for epoch in range(40)]
    runs = [
        tried([[1, 0.003], [6, 0.001]], [[1, 0.6], [6, 0.5]], falling),
        tried([[1, 0.003], [6, 0.002]], [[1, 0.5]], falling),
        tried([[1, 0.003], [6, 0.001]], [[1, 0.55]], falling),
        tried([[1, 0.003], [6, 0.003], [20, 0.0]], [[1, 0.5]], falling),  # changes twice
        tried([[1, 0.003], [6, 0.003]], [[1, 0.5]], falling, schedule=(14, 1.25)),
        tried([[1, 0.003], [6, 0.001]], [[1, 0.5]], falling[:34]),  # too short
        tried([[1, 0.003], [6, 0.001]], [[1, 0.5]], falling, "zaremba-medium"),
        tried([[1, 0.0], [9, 0.003]], [[1, 0.5]], falling),
        tried([[1, 0.003]], [[1, 0.5]], falling),
    ]
    monkeypatch.setattr(search, "runs", lambda: runs)
    assert search.compared() == {0.5: [(0.001, 66.0), (0.002, 66.0)], 0.55: [(0.001, 66.0)]}


def test_a_run_on_the_gpu_is_compared_with_the_same_epoch_of_train_ptb():
    (one,) = (run for run in search.runs() if "train_ptb" in run)
    folder, epoch = kept.RESULTS / "full" / one["train_ptb"], len(one["rows"])
    settings = flattened(json.loads((folder / "config.json").read_text()))
    mild = [settings["final_penalty_scale"] * strength for strength in settings["strength"]]
    (first, *strong), (then, *later) = one["strength"]
    assert (first, strong, then) == (1, settings["strength"], settings["penalty_epochs"] + 1)
    assert (later, one["keep"]) == (pytest.approx(mild), [[1, settings["keep"]]])
    (row,) = (row for row in kept.rows(folder) if row["epoch"] == epoch)
    assert f"after {epoch} epochs" in search.section()
    assert f"{row['train_perplexity']:.2f} and {row['valid_perplexity']:.2f}. The same" in search.section()


def test_the_numbers_of_the_tutorial_are_those_of_the_runs():
    """Tutorial 9 quotes validation perplexities after 35 epochs, and units left after each epoch of pruning."""
    text = (Path(__file__).parents[1] / "tutorials" / "9_choosing_a_strength.py").read_text(encoding="utf-8")
    text = " ".join(line.removeprefix("# ").strip() for line in text.splitlines())
    points = {keep: dict(found) for keep, found in search.compared().items()}
    half, tenth, more = (points[0.5][strength] for strength in (0.0009, 0.0003, 0.0013))
    assert f"is {half:.1f} if 0.3 of the strength remains, {tenth:.1f} if 0.1 remains, and {more:.1f}" in text
    assert f"keep probability 0.4 it is {points[0.4][0.0003]:.1f}" in text
    pruned = next(run for run in search.runs() if run["strength"][0] == [1, 0.003] and run["keep"][0] == [1, 0.6])
    left = [str(sum(row[search.ALIVE])) for row in pruned["rows"][:5]]
    assert f"had {', '.join(left[:-1])} and {left[-1]} left" in text


# the command
# -----------


def test_the_command_measures_writes_and_says_what_is_missing(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(roofline, "machine", lambda: {"peak_gflops": 100.0, "copy_gbs": 10.0})
    uniform = TINY.replaced(hidden_sizes=(4, 4), embed_size=4)
    monkeypatch.setattr(steps, "SIZES", dict.fromkeys(steps.SIZES, uniform))
    options = ["--seconds", "0", "--folder", str(tmp_path), "--json", str(tmp_path / "figures.json")]
    assert command.main(["step-small", "roofline", *options]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    torch_is_there = find_spec("torch") is not None
    measured = {"step_small_vs_matmul", "float64_vs_float32", *(f"{name}_peak_share" for name in roofline.STEPS)}
    assert [*figures] == NAMES
    assert {name for name, value in figures.items() if value is not None} == measured
    assert ("torch is not installed (pip install '.[benchmarks]')" in capsys.readouterr().out) != torch_is_there
    written = (tmp_path / "RESULTS.md").read_text()
    assert written == page.written(record.load(tmp_path))
    assert f"- {record.kind()}, `step_small_vs_matmul`" in written
    assert "| small | 2x4, 2 steps of 2 rows, keep 1 |" in written


def test_a_benchmark_that_fails_is_said_and_the_others_go_on(tmp_path, capsys, monkeypatch):
    def fails(command):
        raise ValueError("no text")

    monkeypatch.setitem(command.BENCHMARKS, "memory", fails)
    monkeypatch.setitem(
        command.BENCHMARKS, "prox-small", lambda command: {"prox_share_small": 0.05, "prox_ms": 1.0}
    )
    monkeypatch.setattr(prox, "section", lambda measured: "")
    record.keep(tmp_path, "memory", record.entry({"peak_mb_small": 1.0}, "before", 1.0, 0.0))
    monkeypatch.setattr(memory, "section", lambda measured: "")
    options = ["--folder", str(tmp_path), "--json", str(tmp_path / "figures.json")]
    assert command.main(["memory", "prox-small", *options]) == 1
    said, figures = capsys.readouterr().out, json.loads((tmp_path / "figures.json").read_text())
    assert {name for name, value in figures.items() if value is not None} == {"prox_share_small"}
    assert "memory: not measured, ValueError: no text" in said
    assert "5 %, wanted at most 8 % / 6 %: met" in said
    assert record.load(tmp_path)[record.kind()]["memory"]["command"] == "before"


def test_a_simulation_starts_the_command_again_in_its_environment(tmp_path, monkeypatch):
    arguments, again = ["memory", "--simulate-avx2", "--folder", str(tmp_path)], []
    processor_of(monkeypatch, {"avx2": True, "avx512f": True}, {})

    def execve(*call):
        again.append(call)
        raise KeyboardInterrupt  # it would not return

    monkeypatch.setattr(os, "execve", execve)
    command.main(arguments)
    ((program, words, environment),) = again
    assert [program, *words] == [sys.executable, sys.executable, "-m", "benchmarks", *arguments]
    assert environment == {**os.environ, **record.SIMULATED}


def test_a_processor_without_avx512_simulates_nothing(tmp_path, monkeypatch, capsys):
    processor_of(monkeypatch, {"avx2": True}, {})
    assert command.main(["memory", "--simulate-avx2", "--folder", str(tmp_path)]) == 2
    assert "--simulate-avx2: expected a processor with AVX-512, got AVX2" in capsys.readouterr().err


@pytest.mark.parametrize("given_", ["medium=there", "small", "small="])
def test_a_run_needs_a_name_and_a_folder(given_, tmp_path, capsys):
    assert command.main(["shrink-small", "--run", given_, "--folder", str(tmp_path)]) == 2
    assert "needs NAME=FOLDER" in capsys.readouterr().err
