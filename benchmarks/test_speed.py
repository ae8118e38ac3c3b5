"""A training step of the small model, its proximal step, and an evaluation: `pytest benchmarks`, in half a minute.

To see a regression: `pytest benchmarks --benchmark-autosave` keeps the timings of now in .benchmarks/, and after
a change `pytest benchmarks --benchmark-compare --benchmark-compare-fail=median:20%` shows both side by side and
fails where a median has grown by more than a fifth. Other frameworks are in `python -m benchmarks`.
"""

import pytest

from benchmarks import evaluation, steps
from issref import iss_groups, prox
from issref.kernels.inference import fixed_weights
from issref.models import ptb_lstm as model
from issref.training.options import strengths

ROUNDS = {"rounds": 40, "warmup_rounds": 5}
medians = {}


@pytest.fixture(scope="module")
def work():
    """The 2x200 model and windows of random words."""
    return steps.task(steps.SIZES["small"])


@pytest.mark.benchmark(group="a step of 2x200")
def test_training_step_without_prox(benchmark, work):
    benchmark.pedantic(steps.training_step(work), **ROUNDS)
    medians["step"] = benchmark.stats.stats.median


@pytest.mark.benchmark(group="a step of 2x200")
def test_exact_proximal_step(benchmark, work):
    groups = iss_groups(work.layout, model.spaces(work.layout.axes))
    strength = groups.spread(strengths(work.settings.penalty.strength, list(groups.first)))
    _, certificate = prox(work.params, groups, strength)

    def step():
        return prox(work.params, groups, strength, warm_start=certificate.warm_start)

    benchmark.pedantic(step, **ROUNDS)
    medians["prox"] = benchmark.stats.stats.median


@pytest.mark.benchmark(group="evaluation")
def test_evaluation_of_the_compact_model(benchmark):
    params, _ = evaluation.weights(evaluation.COMPACT)
    with fixed_weights():
        benchmark.pedantic(evaluation.evaluation(params, evaluation.words()), **ROUNDS)


def test_the_proximal_step_costs_at_most_15_percent_of_a_whole_step():
    if len(medians) < 2:
        pytest.skip("needs both timings, run without --benchmark-skip")
    share = medians["prox"] / (medians["prox"] + medians["step"])
    print(f"\nprox: {share:.1%} of a training step ({medians})")
    assert share <= 0.15
