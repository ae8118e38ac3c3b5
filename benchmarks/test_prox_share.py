"""What the exact proximal step costs beside a training step of the --small model: `pytest benchmarks`."""

import numpy as np
import pytest

from issref import iss_groups, prox
from issref.methods import dense_update
from issref.models import ptb_lstm as model
from issref.training.settings import PRESETS

medians = {}


@pytest.fixture(scope="module")
def small():
    """Weights of --small, and one window of random words."""
    settings, rng = PRESETS["small"], np.random.default_rng(0)
    config = model.Config(hidden_sizes=settings.hidden_sizes, embed_size=settings.hidden_sizes[0])
    layout = model.layout(config)
    params = model.initial(config, layout, rng, np.float32)
    state = model.state_layout(layout, settings.batch).allocate(np.float32)
    tokens, targets = rng.integers(0, config.vocabulary, (2, settings.steps, settings.batch))
    return settings, layout, params, state, tokens, targets


@pytest.mark.benchmark(group="one step of --small")
def test_training_step_without_prox(benchmark, small):
    settings, _, params, state, tokens, targets = small

    def step():
        _, backward = model.loss(params, state, tokens=tokens, targets=targets)
        return dense_update(params, backward(1.0)[0], 1.0, settings.clip)

    benchmark.pedantic(step, rounds=40, warmup_rounds=5)
    medians["step"] = benchmark.stats.stats.median


@pytest.mark.benchmark(group="one step of --small")
def test_exact_proximal_step(benchmark, small):
    settings, layout, params, *_ = small
    groups = iss_groups(layout, model.spaces(layout.axes))
    strength = groups.spread(settings.strengths(list(groups.first)))
    _, certificate = prox(params, groups, strength)

    def step():
        return prox(params, groups, strength, warm_start=certificate.warm_start)

    benchmark.pedantic(step, rounds=40, warmup_rounds=5)
    medians["prox"] = benchmark.stats.stats.median


def test_the_proximal_step_costs_at_most_15_percent_of_a_whole_step():
    if len(medians) < 2:
        pytest.skip("needs both timings, run without --benchmark-skip")
    share = medians["prox"] / (medians["prox"] + medians["step"])
    print(f"\nprox: {share:.1%} of a training step ({medians})")
    assert share <= 0.15
