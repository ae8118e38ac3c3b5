"""The program in PyTorch that looks for settings trains as train_ptb does."""

import json

import numpy as np
import pytest

from issref import train_ptb
from issref.iss.groups import alive, iss_groups
from issref.iss.prox import prox
from issref.models import ptb_lstm

torch = pytest.importorskip("torch")
from benchmarks import twin  # noqa: E402

CONFIG = ptb_lstm.Config(vocabulary=9, embed_size=4, hidden_sizes=(5, 3), init_scale=1.0)
LAYOUT = ptb_lstm.layout(CONFIG)
GROUPS = iss_groups(LAYOUT, ptb_lstm.spaces(LAYOUT.axes))


def drawn(seed=0):
    """Params with biases, in float64."""
    rng = np.random.default_rng(seed)
    return {array: rng.normal(size=LAYOUT.shape(array)) for array in LAYOUT.axes}


def shrunk(params, threshold):
    weights = twin.to_torch(params)
    living = [torch.ones(size, dtype=torch.bool) for size in CONFIG.hidden_sizes]
    twin.shrink_groups(weights, torch.full((2,), threshold, dtype=torch.float64), living)
    return twin.to_params(weights)


def distance(a, b):
    return np.sqrt(sum(np.square(a[array] - b[array]).sum() for array in LAYOUT.axes))


def test_weights_come_back_as_they_were():
    params = drawn()
    back = twin.to_params(twin.to_torch(params))
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
    weights = twin.to_torch(params)
    living = [torch.ones(size, dtype=torch.bool) for size in CONFIG.hidden_sizes]
    thresholds = torch.full((2,), 0.1, dtype=torch.float64)
    twin.shrink_groups(weights, thresholds, living)
    assert [mask.tolist() for mask in living] == [[True, False, True, True, True], 3 * [True]]
    found = twin.to_params(weights)
    assert [mask.tolist() for mask in alive(found, GROUPS).values()] == [mask.tolist() for mask in living]
    assert not found["lstm0/bias"][1::5].any()
    weights["weight_ih_l0"][1] = 10.0  # a gradient step would move it
    twin.shrink_groups(weights, thresholds, living)
    assert not twin.to_params(weights)["lstm0/kernel"][:, 1].any()


@pytest.fixture
def text(tmp_path):
    """A folder with three texts of thirty words, of which nine in ten are followed by the next."""
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


@pytest.mark.parametrize("flags", ["--method dense", "--strength 0.001 --penalty-epochs 1 --clip 1"])
def test_an_epoch_is_that_of_train_ptb(text, tmp_path, flags):
    ours, theirs = (rows(main, tmp_path / main.__module__, text, flags) for main in (train_ptb.main, twin.main))
    # The proximal steps differ by the order of t^2, with t = rate * strength = 1e-3; else, only rounding does.
    tolerance = 1e-9 if "dense" in flags else 1e-6
    for one, two in zip(ours, theirs, strict=True):
        assert [two[name] for name in EXACT] == [one[name] for name in EXACT]
        for name in ("train_perplexity", "valid_perplexity"):
            assert two[name] == pytest.approx(one[name], rel=tolerance)


def test_train_ptb_goes_on_from_the_compact_model(text, tmp_path):
    (*_, last) = rows(
        twin.main, tmp_path / "twin", text, "--strength 0.02 --init-scale 0.5 --penalty-epochs 2 --keep 0.9"
    )
    assert 0 < sum(last["alive"].values()) < 8 + 6
    (first, *_) = rows(train_ptb.main, tmp_path / "on", text, f"--method dense --init {tmp_path / 'twin'}")
    assert first["alive"] == last["alive"]


def test_it_stops_when_all_units_are_dead(text, tmp_path, capsys):
    flags = [*FLAGS.split(), "--strength", "1", "--corpus", str(text), "--out", str(tmp_path / "run")]
    assert twin.main(flags) == 1
    assert "all components of lstm0 have died" in capsys.readouterr().err


@pytest.mark.parametrize("flags", ["--model rhn", "--method l1", "--schedule linear", "--weight-decay 0.1"])
def test_settings_it_does_not_have_are_refused(text, tmp_path, flags, capsys):
    assert twin.main([*FLAGS.split(), *flags.split(), "--corpus", str(text), "--out", str(tmp_path / "run")]) == 2
    assert flags.split()[0] in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
