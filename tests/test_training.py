"""Optimiser, settings, checkpoints and run folders."""

import hashlib
import json
import logging
import math
import os
import platform
import re
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from issref import train_ptb, train_squad
from issref.iss.groups import Groups
from issref.iss.layout import Layout
from issref.ptb import console as ptb_console
from issref.ptb.settings import PRESETS
from issref.training import checkpoint, console
from issref.training.checkpoint import write_json
from issref.training.optimizers import adam, add_weight_decay, clip_scale, global_norm, move_average, sgd
from issref.training.process import defer_interrupts
from issref.training.recorder import Recorder
from issref.training.runs import (
    LAST,
    PREVIOUS,
    Interrupted,
    load_last,
    load_run,
    new_folder,
    run_lock,
    save_last,
    save_run,
    training_steps,
)
from issref.training.state import RunState


def arrays_of(seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return {"a/kernel": rng.normal(size=(3, 4)).astype(dtype), "a/bias": rng.normal(size=4).astype(dtype)}


# ---------------------------------------------------------------- optimiser


@given(seed=st.integers(0, 99), most=st.floats(0.01, 10))
def test_clipping_keeps_the_direction_and_bounds_the_norm(seed, most):
    grads = arrays_of(seed)
    norm = np.linalg.norm(np.concatenate([gradient.ravel() for gradient in grads.values()]))
    assert global_norm(grads) == pytest.approx(norm, rel=1e-14)
    assert clip_scale(norm, most) * norm == pytest.approx(min(norm, most), rel=1e-14)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_norm_that_is_not_finite_is_refused(bad):
    with pytest.raises(FloatingPointError, match=f"gradient's norm is {bad}"):
        clip_scale(bad, 5.0)


def test_sgd_leaves_the_old_params_alone_and_keeps_their_precision():
    params, grads = arrays_of(1, np.float32), arrays_of(2, np.float32)
    expected = {name: params[name] - np.float32(0.5) * grads[name] for name in params}
    before = {name: values.copy() for name, values in params.items()}
    after = sgd(params, grads, 0.5)
    for name in params:
        assert after[name].dtype == np.float32
        np.testing.assert_array_equal(params[name], before[name])
        np.testing.assert_allclose(after[name], expected[name], rtol=1e-6)


@given(seed=st.integers(0, 99), decay=st.floats(0, 1))
def test_weight_decay_adds_the_gradient_of_half_the_squared_norm(seed, decay):
    params, grads = arrays_of(seed), arrays_of(seed + 100)
    expected = {name: grads[name] + decay * params[name] for name in params}
    add_weight_decay(grads, params, decay)
    for name in params:
        np.testing.assert_allclose(grads[name], expected[name], rtol=1e-15)


def adam_of_one(w, gradients, rate):
    """Adam on one number, by its equations, step by step."""
    m = v = 0.0
    for step, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w -= rate * math.sqrt(1 - 0.999**step) / (1 - 0.9**step) * m / (math.sqrt(v) + 1e-8)
    return w, m, v


@given(seed=st.integers(0, 99), steps=st.integers(1, 5))
def test_adam_is_its_equations_weight_by_weight(seed, steps):
    params, history = arrays_of(seed), [arrays_of(seed + 1 + step) for step in range(steps)]
    after, first, second = params, *({name: np.zeros_like(w) for name, w in params.items()} for _ in range(2))
    for step, grads in enumerate(history, start=1):
        after = adam(after, {name: g.copy() for name, g in grads.items()}, first, second, 0.1, step)
    for name, w in params.items():
        for place in np.ndindex(w.shape):
            expected = adam_of_one(w[place], [grads[name][place] for grads in history], 0.1)
            found = (after[name][place], first[name][place], second[name][place])
            assert found == pytest.approx(expected, rel=1e-12)


def test_adam_leaves_the_old_params_alone_keeps_their_precision_and_moves_no_weight_without_a_gradient():
    params, grads = arrays_of(1, np.float32), arrays_of(2, np.float32)
    grads["a/bias"][:] = 0
    first, second = ({name: np.zeros_like(w) for name, w in params.items()} for _ in range(2))
    before = {name: values.copy() for name, values in params.items()}
    after = adam(params, {name: g.copy() for name, g in grads.items()}, first, second, 0.01, 1)
    for name in params:
        assert after[name].dtype == first[name].dtype == second[name].dtype == np.float32
        np.testing.assert_array_equal(params[name], before[name])
    np.testing.assert_array_equal(after["a/bias"], params["a/bias"])
    moved = after["a/kernel"] - params["a/kernel"]  # the first step is rate * sign
    np.testing.assert_allclose(moved, -0.01 * np.sign(grads["a/kernel"]), rtol=2e-4)


@given(seed=st.integers(0, 99), decay=st.floats(0, 0.99), steps=st.integers(0, 5))
def test_the_moving_average_weighs_each_step_by_its_age(seed, decay, steps):
    history = [arrays_of(seed + step) for step in range(steps + 1)]
    average = {name: w.copy() for name, w in history[0].items()}
    for params in history[1:]:
        move_average(average, params, decay)
    ages = [steps - step for step in range(steps + 1)]
    weights = [decay**age * (1 - decay if step else 1) for step, age in enumerate(ages)]
    for name, a in average.items():
        expected = sum(weight * params[name] for weight, params in zip(weights, history, strict=True))
        np.testing.assert_allclose(a, expected, rtol=1e-12, atol=1e-14)


# ---------------------------------------------------------------- settings: the released code's, by hand

PUBLISHED = {  # init, rate, clip, steps, width, epochs, keep, batch, then rates by epoch (counted from 1)
    "zaremba-small": (0.1, 1.0, 5.0, 20, 200, 13, 1.0, 20, {1: 1, 4: 1, 5: 0.5, 13: 0.5**9}),
    "zaremba-medium": (0.05, 1.0, 5.0, 35, 650, 39, 0.5, 20, {6: 1, 7: 0.8, 39: 0.8**33}),
    "zaremba-large": (0.04, 1.0, 10.0, 35, 1500, 55, 0.35, 20, {14: 1, 15: 1 / 1.15, 55: 1.15**-41}),
    "iss-large": (0.04, 1.0, 10.0, 35, 1500, 55, 0.60, 20, {18: 1, 19: 0.1, 36: 0.1, 37: 0.01, 55: 0.001}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_are_the_published_configurations(name):
    preset, (*numbers, rates) = PRESETS[name], PUBLISHED[name]
    fields = ("init_scale", "learning_rate", "clip", "steps", "epochs", "keep", "batch")
    init, rate, clip, steps, width, epochs, keep, batch = numbers
    assert [preset.flat()[field] for field in fields] == [init, rate, clip, steps, epochs, keep, batch]
    assert preset.network.hidden_sizes == (width, width)
    for epoch, expected in rates.items():
        assert preset.schedule.rate(epoch - 1) == pytest.approx(expected, rel=1e-12)


RHN_RATES = {1: 0.2, 20: 0.2, 21: 0.2 / 1.02, 500: 0.2 / 1.02**480}


@pytest.mark.parametrize(("name", "method", "fraction"), [("rhn-sota", "dense", 1), ("rhn-iss", "prox", 0.6)])
def test_highway_presets_are_the_published_configurations(name, method, fraction):
    """The released code's, by hand; its ISS run has three fifths of the dropout."""
    settings = PRESETS[name]
    assert settings.network.drops == pytest.approx([fraction * drop for drop in (0.25, 0.75, 0.25, 0.75)])
    expected = {"model": "rhn", "method": method, "hidden_sizes": (830,), "depth": 10, "tied": True}
    expected |= {"init_scale": 0.04, "transform_bias": -2.0, "steps": 35, "batch": 20, "epochs": 500, "clip": 10.0}
    expected |= {"weight_decay": 1e-7, "threshold": 4e-4, "strength": (0.005,), "selection": "best"}
    assert {field: settings.flat()[field] for field in expected} == expected
    for epoch, rate in RHN_RATES.items():
        assert settings.schedule.rate(epoch - 1) == pytest.approx(rate, rel=1e-12)


def test_iss_large_has_the_strength_and_threshold_of_the_released_run():
    penalty = PRESETS["iss-large"].penalty
    assert (penalty.strength, penalty.threshold) == ((0.00245,), 1e-4)


# ---------------------------------------------------------------- checkpoints


def recorder_of(**measured):
    """A recorder without scores of its own."""
    return Recorder(lambda loss_sum, count: {}, "words", 1, **measured)


def state_of(seed, **fields):
    """A run in which nothing is carried."""
    return RunState(arrays_of(seed), {}, np.random.default_rng(seed), {}, **fields)


@given(seed=st.integers(0, 99))
def test_a_checkpoint_brings_everything_back_bit_for_bit(seed, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "checkpoint.safetensors"
    rng = np.random.default_rng(seed)
    run = RunState(arrays_of(seed), arrays_of(seed + 1, np.float32), rng, {"lstm0": rng.random(4) > 0.5})
    run.optimizer_state = {"warm_start": rng.random((3, 3)), "dead": rng.random(2) > 0.5, "first/a": rng.random(3)}
    run.epoch, run.step = 3, 7
    recorder = recorder_of(loss_sum=float(rng.random()) / 3, seconds=1.5)
    recorder.trace, recorder.rows = [{"step": 1, "alive": {"lstm0": 4}}], [{"valid_perplexity": 1 / 3}]
    recorder.cuts = [{"step": 2, "max_output_difference": 1 / 7}]
    save_run(path, run, recorder, corpus="abc")
    back, about = load_run(path)
    assert about == {"corpus": "abc", "measured": recorder.to_dict()}
    for part in ("params", "state", "alive", "optimizer_state"):
        assert getattr(back, part).keys() == getattr(run, part).keys()
        for name, values in getattr(run, part).items():
            np.testing.assert_array_equal(getattr(back, part)[name], values, strict=True)
    assert (back.epoch, back.step) == (3, 7)
    np.testing.assert_array_equal(back.rng.random(5), run.rng.random(5))


def test_the_clock_of_a_restored_recorder_goes_on_from_the_saved_seconds(tmp_path):
    save_last(tmp_path, state_of(0), recorder_of(seconds=1000.0, loss_sum=2.5, rows=[{"epoch": 1}]))
    recorder = recorder_of()
    load_last(tmp_path, recorder)
    assert recorder.to_dict() == recorder_of(seconds=1000.0, loss_sum=2.5, rows=[{"epoch": 1}]).to_dict()
    recorder.start_clock()
    groups = Groups({}, 0, {})
    recorder.record(state_of(0), 0.5, groups, Layout({}, {}))
    assert 1000 <= recorder.seconds < 1010
    assert recorder.loss_sum == 3.0


def test_a_checkpoint_cut_off_anywhere_is_refused_in_a_sentence(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_run(path, state_of(0), recorder_of())
    whole = path.read_bytes()
    for length in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="expected a complete safetensors file, got one that cannot be read"):
            load_run(path)


def damaged_checkpoint(path, field, value):
    """Write a checkpoint in which a field of the metadata, named by its path, has another value."""
    save_run(path, state_of(0), recorder_of())
    arrays, about = checkpoint.load(path)
    *parents, last = field.split("/")
    place = about
    for parent in parents:
        place = place[parent]
    place[last] = value
    checkpoint.save(path, arrays, **about)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("position/epoch", -1, "epoch: expected a whole number from 0 up, got -1"),
        ("position/epoch", True, "epoch: expected a whole number from 0 up, got True"),
        ("position/step", 1.5, "step: expected a whole number from 0 up, got 1.5"),
        ("position/place", 1, "unexpected keyword argument 'place'"),
        ("random/bit_generator", "MT19937", "something else"),
        ("measured/loss_sum", "much", "loss_sum: expected a finite number, got much"),
        ("measured/seconds", float("inf"), "seconds: expected a finite number, got inf"),
        ("measured/rows", [1], r"rows: expected a list of objects, got \[1\]"),
        ("measured/trace", {}, "trace: expected a list of objects, got {}"),
        ("measured/more", 1, r"measured: expected \['cuts', .*\], got .*'more'"),
    ],
)
def test_a_checkpoint_of_another_meaning_is_refused_in_a_sentence(field, value, said, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    damaged_checkpoint(path, field, value)
    with pytest.raises(ValueError, match="expected a checkpoint of a run, got something else") as error:
        load_run(path)
    assert re.search(said, str(error.value))
    assert "\n" not in str(error.value)


def test_alive_masks_are_vectors_of_booleans(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    run = state_of(0)
    run.alive = {"lstm0": np.ones(3)}
    save_run(path, run, recorder_of())
    with pytest.raises(ValueError, match=r"alive/lstm0: expected a vector of booleans, got float64 \(3,\)"):
        load_run(path)


def test_a_file_of_another_version_or_kind_is_refused_in_a_sentence(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(ValueError, match="expected a file written by issref, got none"):
        checkpoint.load(path)
    checkpoint.save(path, arrays_of(0), words=["a"])
    with pytest.raises(ValueError, match="expected a checkpoint of a run, got something else"):
        load_run(path)
    monkeypatch.setattr(checkpoint, "FORMAT", "issref 3")
    with pytest.raises(ValueError, match="expected format 'issref 3' with its sha256, got 'issref 2' and"):
        checkpoint.load(path)


def test_the_checksum_is_that_of_the_file_with_its_own_digits_as_zeros(tmp_path):
    path = tmp_path / "file.safetensors"
    checkpoint.save(path, arrays_of(0), words=["a"])
    content = path.read_bytes()
    said = content.partition(b'"sha256":"')[2][:64]
    assert hashlib.sha256(content.replace(said, b"0" * 64)).hexdigest() == said.decode()


def test_the_previous_checkpoint_is_kept(tmp_path):
    run = state_of(0)
    for run.step in (1, 2, 3):
        save_last(tmp_path, run, recorder_of())
    assert [load_run(tmp_path / name)[0].step for name in (LAST, PREVIOUS)] == [3, 2]
    assert sorted(os.listdir(tmp_path)) == sorted((LAST, PREVIOUS))


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    checkpoint.write_whole(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the disk is full after 1000 bytes
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoint.write_whole(path, b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


STRANGE = {
    "link": lambda path: path.symlink_to(path.with_name("victim")),
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "device": lambda path: path.symlink_to("/dev/null"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_regular_file_is_neither_replaced_nor_followed(kind, tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "file"
    victim.write_bytes(b"mine")
    STRANGE[kind](path)
    before = path.lstat()
    found = {"device": "link"}.get(kind, kind)
    with pytest.raises(ValueError, match=f"file: expected a regular file, got a {found}$"):
        checkpoint.write_whole(path, b"new")
    assert path.lstat() == before
    assert victim.read_bytes() == b"mine"
    assert sorted(os.listdir(tmp_path)) == ["file", "victim"]


def test_a_device_is_not_replaced():
    before = os.lstat("/dev/null").st_rdev
    with pytest.raises(ValueError, match="/dev/null: expected a regular file, got a device"):
        checkpoint.write_whole(Path("/dev/null"), b"new")
    assert os.lstat("/dev/null").st_rdev == before


def test_no_writer_opens_the_temporary_file_of_another_or_follows_a_link(tmp_path, monkeypatch):
    """The name is drawn anew each time; a name that is taken, by a file or a link, is not opened."""
    names = iter(["11111111", "11111111", "22222222"])
    monkeypatch.setattr(checkpoint, "token_hex", lambda size: next(names))
    other, victim = tmp_path / "file.11111111.partial", tmp_path / "victim"
    victim.write_bytes(b"mine")
    for take in (lambda: other.symlink_to(victim), lambda: other.write_bytes(b"another's")):
        take()
        with pytest.raises(FileExistsError):
            checkpoint.write_whole(tmp_path / "file", b"new")
        assert victim.read_bytes() == b"mine"
        assert other.is_symlink() or other.read_bytes() == b"another's"
        if other.is_symlink():
            other.unlink()
    checkpoint.write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_many_writers_of_one_file_leave_one_content(tmp_path):
    contents = [bytes([65 + n]) * 100_000 for n in range(8)]

    def write(content):
        for _ in range(20):
            checkpoint.write_whole(tmp_path / "file", content)
            assert (tmp_path / "file").read_bytes() in contents

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, contents))
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "expected a regular file, got a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "expected a regular file, got a device"),
        (lambda path: path.symlink_to(path), r"expected a file, got one that cannot be read \(Too many levels"),
        (lambda path: None, "expected a file, got none"),
    ],
)
def test_what_has_no_end_is_not_read(make, said, tmp_path):
    make(tmp_path / "file")
    with pytest.raises(ValueError, match=f"file: {said}"):
        checkpoint.read_whole(tmp_path / "file", "a file")


def test_a_link_to_a_file_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert checkpoint.read_whole(tmp_path / "link", "a file") == b"content"


def test_a_vocabulary_beyond_the_header_limit_of_safetensors_comes_back(tmp_path):
    """safetensors reads no header of more than 10^8 bytes."""
    words, path = [f"{n:07}" + "w" * 93 for n in range(1_000_000)], tmp_path / "file"
    checkpoint.save(path, {"kernel": np.ones(2)}, words=words, few=["a"])
    arrays, about = checkpoint.load(path)
    assert arrays.keys() == {"kernel"}
    assert about == {"words": words, "few": ["a"]}


def test_the_same_content_has_the_same_bytes_in_every_process(tmp_path):
    code = (
        "import sys; from pathlib import Path; import numpy as np; from issref.training import checkpoint\n"
        "checkpoint.save(Path(sys.argv[1]), {'b': np.ones(3), 'a': np.zeros(2)}, **{n: n for n in 'fedcba'})"
    )
    for n in range(3):
        subprocess.run((sys.executable, "-c", code, tmp_path / str(n)), check=True)
    checkpoint.save(tmp_path / "3", {"a": np.zeros(2), "b": np.ones(3)}, **{n: n for n in "abcdef"})
    assert len({(tmp_path / str(n)).read_bytes() for n in range(4)}) == 1


# ---------------------------------------------------------------- run folders and signals


def test_a_folder_with_a_run_or_without_permission_is_refused(tmp_path):
    folder = tmp_path / "deep" / "run"
    with new_folder(folder):
        assert os.listdir(folder) == [".lock"]
    write_json(folder / "config.json", {})
    with (
        pytest.raises(ValueError, match=r"--out: expected a folder without a run, got .* with one \(--resume "),
        new_folder(folder),
    ):
        pass
    with (
        run_lock(folder),
        pytest.raises(ValueError, match="expected one process at a time, got a folder locked by another"),
        run_lock(folder),
    ):
        pass
    (tmp_path / "file").write_text("not a folder")
    with (
        pytest.raises(ValueError, match="file: expected a writable folder, got "),
        run_lock(tmp_path / "file"),
    ):
        pass
    with (
        pytest.raises(ValueError, match=r"--out: expected a writable folder, got .*file/run: Not a directory"),
        new_folder(tmp_path / "file" / "run"),
    ):
        pass


def test_a_run_that_begins_and_ends_before_the_lock_is_seen(tmp_path, monkeypatch):
    def lock(folder):
        write_json(folder / "config.json", {})
        return run_lock(folder)

    monkeypatch.setattr("issref.training.runs.run_lock", lock)
    with pytest.raises(ValueError, match="expected a folder without a run"), new_folder(tmp_path / "run"):
        pass


def test_json_lines_are_a_row_a_line(tmp_path):
    write_json(tmp_path / "rows", [{"epoch": 1}, {"epoch": 2}])
    assert [json.loads(line)["epoch"] for line in (tmp_path / "rows").read_text().splitlines()] == [1, 2]


COUNT_FAULTS = """
import resource, sys
import numpy as np
from issref.training.process import tune_malloc
if sys.argv[1] == "keep":
    tune_malloc()
for n in range(20):
    if n == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(6_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc can be told")
def test_freed_memory_is_kept_for_the_next_arrays():
    """Each page that the system hands out anew is a fault; 48 MB are hundreds of them, even if huge."""
    faults = [
        int(subprocess.run((sys.executable, "-c", COUNT_FAULTS, way), capture_output=True, check=True).stdout)
        for way in ("keep", "give back")
    ]
    assert faults[0] < 10
    assert faults[1] > 100


TEAR = """
import sys
import numpy as np
from issref.training.process import trim_malloc, tune_malloc, resident_mb
tune_malloc()
living = []
for n in range(8):  # between two large arrays a small one that stays, so that no larger array fits a hole
    pairs = [(np.ones(1_000_000 + n * 200_000), np.ones(200)) for _ in range(4)]
    living += [small for _, small in pairs]
del pairs
before = resident_mb()
if sys.argv[1] == "give back":
    trim_malloc()
assert all((one == 1).all() for one in living)
print(before - resident_mb())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc can be told")
def test_holes_in_a_torn_heap_are_given_back_and_what_lives_is_not():
    given, kept = [
        float(subprocess.run((sys.executable, "-c", TEAR, way), capture_output=True, check=True).stdout)
        for way in ("give back", "keep")
    ]
    assert given > 50
    assert kept < 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_noted_and_the_second_stops_at_once(number):
    handler = signal.getsignal(number)
    with defer_interrupts() as arrived:
        assert not arrived
        os.kill(os.getpid(), number)
        assert arrived == [number.name]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is handler


def test_a_signal_after_the_last_step_stops_the_run_once_it_is_saved(monkeypatch):
    """It arrives when the bar of the epoch is closed."""

    @contextmanager
    def bar(*arguments):
        yield
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(console, "progress_bar", bar)
    monkeypatch.setattr(console, "advance", lambda *arguments: None)
    run, saved = state_of(0, step=1), []
    with pytest.raises(Interrupted):
        list(training_steps([0, 1], run, Recorder(dict, "words", 1), lambda: saved.append(run.step), 1))
    assert saved == [2]


def test_the_clock_of_a_resumed_run_goes_on_when_training_begins(monkeypatch):
    """Not while its text is read."""
    clock = iter([0.0, 100.0, 101.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    recorder = Recorder(dict, "words", 1)
    recorder.restore(recorder.to_dict() | {"seconds": 30.0})
    recorder.start_clock()
    assert time.perf_counter() - recorder.started == 31.5


# ---------------------------------------------------------------- console


@pytest.mark.parametrize("command", [train_ptb, train_squad])
def test_help_shows_the_defaults_of_the_preset_that_would_run(command, capsys):
    for words, preset in (((), "small"), (("--preset", last := [*command.PRESETS][-1]), last)):
        with pytest.raises(SystemExit):
            command.parse([*words, "--help"])
        shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
        rate = command.PRESETS[preset].schedule.learning_rate
        assert re.search(rf"--learning-rate \S+ [^-]*\(default: {rate}\)", shown)


def test_the_bar_shows_the_components_alive_on_a_narrow_screen(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    recorder = Recorder(dict, "words", 400, trace=[{"alive": {"lstm0": 153, "lstm1": 91}}], steps=2000)
    recorder.scores = {"loss": 123.456, "train_perplexity": 456.789}
    with console.progress_bar(recorder, "1/3", 0) as bar:
        bar.ncols, bar.dynamic_ncols = 80, None
        console.advance(bar, recorder)
        line = str(bar)
    assert len(line) <= 80
    assert line.startswith("epoch 1/3, alive 153 91:")


def test_compiling_in_the_first_step_does_not_count_in_the_time_that_remains():
    recorder = Recorder(dict, "words", 1, trace=[{"alive": {}}], steps=100)
    with console.progress_bar(recorder, "1/1", 0) as bar:
        bar.start_t -= 1000  # the bar was drawn long before the first step ended
        bar.last_print_t -= 1000
        console.advance(bar, recorder)
        assert bar.format_dict["elapsed"] < 100


def test_equal_outputs_are_called_equal():
    assert console.difference_phrase(0.0) == "are equal"
    assert console.difference_phrase(1.25e-7) == "differ by at most 1.2e-07"


def test_a_perplexity_above_a_uniform_guess_is_called_divergence(capsys):
    for perplexity in (50.0, 100.0):
        ptb_console.note_divergence(perplexity, 100)
    assert capsys.readouterr().out == ""
    ptb_console.note_divergence(101.0, 100)
    assert "--learning-rate" in capsys.readouterr().out


def test_commands_print_what_the_library_logs(capsys):
    console.show_library_messages()
    console.show_library_messages()  # a second command in one process
    logging.getLogger("issref.kernels").info("compiling")
    assert capsys.readouterr().out == "compiling\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_ignored_signal_stays_ignored(number):
    """As nohup and a shell's `&` start a process."""
    handler = signal.signal(number, signal.SIG_IGN)
    try:
        with defer_interrupts() as arrived:
            os.kill(os.getpid(), number)
        assert arrived == []
    finally:
        signal.signal(number, handler)


# ---------------------------------------------------------------- the terminal

SPEAK = """
import sys
from issref.training import console
console.prepare_streams()
with open(sys.argv[1], "wb") as file:
    console.log("a \\x1b[2J \\u2026 \\udcff")
    sys.exit(console.failed("b \\u2026", 100 + file.fileno()))
"""


def spoken(tmp_path, redirected, **environment):
    """The exit code of a command, which is 100 more than the number of a file that it opens; stdout, stderr, and
    what was written to that file."""
    arguments = ["sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-c", SPEAK, str(tmp_path / "file")]
    done = subprocess.run(arguments, env={**os.environ, **environment}, capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr, (tmp_path / "file").read_bytes()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_not_opened_for_a_file_and_stops_nothing(closed, tmp_path):
    code, out, err, written = spoken(tmp_path, closed)
    assert code >= 103
    assert written == b""
    assert (out == b"") == ("1>" in closed or " >" in f" {closed}")
    assert (err == b"") == ("2>" in closed)


def test_a_full_stream_stops_nothing_and_is_named(tmp_path):
    code, _, err, _ = spoken(tmp_path, ">/dev/full")
    assert code >= 103
    said = "issref: stdout: expected a stream that takes output, got No space left on device; going on without it"
    assert err.decode().splitlines()[0] == said
    assert spoken(tmp_path, "2>/dev/full")[0] >= 103


@pytest.mark.parametrize(
    ("encoding", "dots"), [("ascii", b"\\u2026"), ("latin-1", b"\\u2026"), ("utf-8", "…".encode())]
)
def test_what_a_terminal_cannot_show_is_escaped(encoding, dots, tmp_path):
    _, out, err, _ = spoken(tmp_path, "", PYTHONIOENCODING=encoding)
    assert out == b"a \\x1b[2J " + dots + b" \\udcff\n"
    assert err == b"issref: b " + dots + b"\n"
