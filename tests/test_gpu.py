"""The program in PyTorch that tries settings on a GPU trains as train_ptb does; here it runs on the processor."""

import json

import numpy as np
import pytest

from issref import train_ptb
from issref.iss.groups import alive, iss_groups
from issref.iss.prox import prox
from issref.models import ptb_lstm
from issref.ptb.settings import PRESETS

torch = pytest.importorskip("torch")
from benchmarks import gpu  # noqa: E402


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch):
    monkeypatch.setattr(gpu, "DEVICE", "cpu")
    monkeypatch.setattr(gpu, "PRODUCTS", torch.float32)


CONFIG = ptb_lstm.Config(vocabulary=9, embed_size=4, hidden_sizes=(5, 3), init_scale=1.0)
LAYOUT = ptb_lstm.layout(CONFIG)
GROUPS = iss_groups(LAYOUT, ptb_lstm.spaces(LAYOUT.axes))


def drawn(seed=0):
    """Params with biases, in float64."""
    rng = np.random.default_rng(seed)
    return {array: rng.normal(size=LAYOUT.shape(array)) for array in LAYOUT.axes}


def shrunk(params, threshold):
    weights = gpu.to_torch(params)
    masks = [torch.ones(size, dtype=torch.bool) for size in CONFIG.hidden_sizes]
    gpu.shrink_groups(weights, torch.full((2,), threshold, dtype=torch.float64), masks)
    return gpu.to_params(weights)


def distance(a, b):
    return np.sqrt(sum(np.square(a[array] - b[array]).sum() for array in LAYOUT.axes))


def test_weights_come_back_as_they_were():
    params = drawn()
    back = gpu.to_params(gpu.to_torch(params))
    assert all(np.array_equal(back[array], params[array]) for array in LAYOUT.axes)


@pytest.mark.parametrize("seed", range(5))
def test_the_proximal_step_is_exact_up_to_the_square_of_the_threshold(seed):
    params = drawn(seed)
    errors = [distance(shrunk(params, t), prox(params, GROUPS, t)[0]) for t in (0.02, 0.01, 0.005)]
    assert errors[0] > 0
    assert np.divide(errors[:-1], errors[1:]) == pytest.approx([4, 4], rel=0.1)  # half the step, a quarter


def test_a_unit_below_the_threshold_dies_with_its_biases_and_stays_dead():
    params = drawn()
    params["lstm0/kernel"][:, 1::5] *= 1e-3
    params["lstm0/kernel"][4 + 1] *= 1e-3
    params["lstm1/kernel"][1] *= 1e-3
    weights = gpu.to_torch(params)
    masks = [torch.ones(size, dtype=torch.bool) for size in CONFIG.hidden_sizes]
    thresholds = torch.full((2,), 0.1, dtype=torch.float64)
    gpu.shrink_groups(weights, thresholds, masks)
    assert [mask.tolist() for mask in masks] == [[True, False, True, True, True], 3 * [True]]
    found = gpu.to_params(weights)
    assert [mask.tolist() for mask in alive(found, GROUPS).values()] == [mask.tolist() for mask in masks]
    assert not found["lstm0/bias"][1::5].any()
    weights["weight_ih_l0"][1] = 10.0  # a gradient step would move it
    gpu.shrink_groups(weights, thresholds, masks)
    assert not gpu.to_params(weights)["lstm0/kernel"][:, 1].any()


@pytest.fixture
def text(tmp_path):
    """A folder with three texts that count through thirty words, and leave out about one in ten."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 3000), ("valid", 500), ("test", 500)):
        ids = (np.cumsum(1 + (rng.random(count) < 0.1)) % 30).tolist()
        (tmp_path / f"{name}.txt").write_text(" ".join(f"w{number}" for number in ids))
    return tmp_path


FLAGS = (
    "--preset zaremba-small --hidden-sizes 8 6 --steps 5 --batch 4 --epochs 3 --flat-epochs 2 "
    "--dtype float64 --threads 1"
)

EXACT = ("epoch", "learning_rate", "alive")


def rows(main, folder, text, flags):
    assert main([*FLAGS.split(), *flags.split(), "--corpus", str(text), "--out", str(folder)]) == 0
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


RUNS = [
    "--method dense --hidden-sizes 8 6 5 --schedule staircase",
    "--strength 0.001 0.002 --penalty-epochs 1 --final-penalty-scale 0.3 --clip 1",
]


@pytest.mark.parametrize("flags", RUNS)
def test_an_epoch_is_that_of_train_ptb(text, tmp_path, flags):
    ours, theirs = (rows(main, tmp_path / main.__module__, text, flags) for main in (train_ptb.main, gpu.main))
    # The proximal steps differ by the order of t^2, with t = rate * strength = 1e-3; else, only rounding does.
    tolerance = 1e-9 if "dense" in flags else 1e-6
    for one, two in zip(ours, theirs, strict=True):
        assert [two[name] for name in EXACT] == [one[name] for name in EXACT]
        for name in ("train_perplexity", "valid_perplexity"):
            assert two[name] == pytest.approx(one[name], rel=tolerance)


def test_both_programs_go_on_from_the_compact_model(text, tmp_path):
    (*_, last) = rows(
        gpu.main, tmp_path / "gpu", text, "--strength 0.02 --init-scale 0.5 --penalty-epochs 2 --keep 0.9"
    )
    assert 0 < sum(last["alive"].values()) < 8 + 6
    flags = f"--method dense --epochs 1 --learning-rate 0.1 --init {tmp_path / 'gpu'}"
    (ours,), (theirs,) = (
        rows(main, tmp_path / main.__module__, text, flags) for main in (train_ptb.main, gpu.main)
    )
    assert ours["alive"] == theirs["alive"] == last["alive"]
    assert theirs["valid_perplexity"] == pytest.approx(ours["valid_perplexity"], rel=1e-9)


def epoch(keep=1.0, thresholds=(0.0, 0.0)):
    settings = PRESETS["zaremba-small"].replaced(batch=2, steps=3, keep=keep, clip=0.1)
    tokens = np.random.default_rng(0).integers(0, CONFIG.vocabulary, (4, 2, 3, 2))
    return gpu.Epoch(settings, drawn(), [*tokens], thresholds, torch.Generator().manual_seed(0))


def test_a_step_changes_tensors_in_place():
    """Else a CUDA graph, which repeats a step on the same memory, would read the first values again."""
    one = epoch(thresholds=[0.1, 0.1])
    changed = [*one.weights.values(), *one.state, *one.masks, one.number, one.total]
    before = [(values.data_ptr(), values.detach().clone()) for values in changed]
    one.step(1.0)
    after = [*one.weights.values(), *one.state, *one.masks, one.number, one.total]
    for (place, values), now in zip(before, after, strict=True):
        assert now.data_ptr() == place
        assert now.dtype == torch.bool or not torch.equal(now, values)


def test_dropout_keeps_the_mean():
    one, x = epoch(), torch.ones(40_000, dtype=torch.float64)
    dropped = one.dropout(x, 0.8)
    assert set(dropped.tolist()) == {0, 1 / 0.8}
    assert dropped.mean().item() == pytest.approx(1, abs=5 * np.sqrt(0.25 / 40_000))  # the variance is 1 / 0.8 - 1


def test_all_places_of_dropout(monkeypatch):
    one, shapes = epoch(keep=0.5), []
    monkeypatch.setattr(one, "dropout", lambda x, keep: shapes.append((x.shape[-1], keep)) or x)
    one.step(1.0)
    assert shapes == [(4, 0.5), (5, 0.5), (3, 0.5)]  # the embedding, and what each layer returns


def test_numbers_that_are_not_finite_are_noticed():
    one = epoch()
    with torch.no_grad():
        one.weights["softmax/bias"][0] = torch.nan
    with pytest.raises(FloatingPointError, match="a weight is not finite"):
        one.train(1.0)


def test_it_stops_when_all_units_are_dead(text, tmp_path, capsys):
    flags = [*FLAGS.split(), "--strength", "1", "--corpus", str(text), "--out", str(tmp_path / "run")]
    assert gpu.main(flags) == 1
    assert "all components of lstm0 have died" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags", ["--model gru", "--method l1", "--schedule linear", "--weight-decay 0.1", "--selection best"]
)
def test_settings_it_does_not_have_are_refused(text, tmp_path, flags, capsys):
    assert gpu.main([*FLAGS.split(), *flags.split(), "--corpus", str(text), "--out", str(tmp_path / "run")]) == 2
    assert flags.split()[0] in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_cannot_be_resumed(text, tmp_path, capsys):
    rows(gpu.main, tmp_path / "run", text, "--method dense --epochs 1")
    assert gpu.main(["--resume", str(tmp_path / "run")]) == 2
    assert "expected a new run" in capsys.readouterr().err
