"""A run in words: its title, what happened, definitions, labels of compared runs, alternative texts of figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from issref.models import LANGUAGE_MODELS
from issref.report.measures import in_words, measure_of
from issref.report.run import Run
from issref.report.style import Norms, Rows
from issref.report.tables import BOTH, change, listed, total
from issref.training.console import difference_phrase
from issref.training.options import flattened

TERMS = {  # a page explains them where it first uses them
    "components": "A component is one hidden unit with all its weights: its columns of each gate, its recurrent "
    "row, and its row in each matrix that reads it.",
    "perplexity": "The exponential of the mean loss of a word: the number of equally likely words among which a "
    "choice is as uncertain. Lower is better.",
    "multiply-adds": "Products of a weight and an activation, for one word.",
    "compact model": "The network without its dead components: smaller, dense, with the same outputs.",
    "dense": "Trained without a penalty: nothing is removed.",
    "prox": "After each gradient step the proximal operator of the group lasso shortens the weights of every "
    "component; a component that is short enough becomes exactly zero.",
    "F1": "The overlap of the predicted and the true answer's words, from 0 to 100. Higher is better.",
    "norm": "The square root of the sum of the squared weights.",
}
METHODS = {"prox": "ISS (prox, the exact proximal step)", "released": "ISS as in the released code"}
METHODS |= {"l1": "an l1 penalty on single weights", "dense": "no penalty (dense)"}
PLACES = {"data_dir", "threads", "init", "corpus", "train", "dev", "glove"}  # settings that describe no method


def title(run: Run) -> str:
    """Return what a run is about: the network, and how many components are left."""
    name = _network(run)
    if run.result is None:
        return f"{name}, in training"
    full, small = (run.result["components"][one] for one in BOTH)
    if full != small:
        return f"{name}, trained down to {total(small)}"
    return f"{name}, trained {'dense' if run.settings.get('method') == 'dense' else 'without losing a component'}"


def sentences(run: Run, twin: Run | None = None) -> list[str]:
    """Return what was trained, what was removed, what it cost, what it gained: a text for each."""
    return [text for text in (_trained(run), *(_ended(run, run.result, twin) if run.result else ())) if text]


def _network(run: Run) -> str:
    found = model(run.settings)
    return f"A network of {total(run.sizes)} components" if found == "not recorded" else found


def _trained(run: Run) -> str:
    corpus = (run.result or {}).get("corpus", {}).get("name") or Path(str(run.settings.get("corpus", ""))).name
    method = METHODS.get(str(run.settings.get("method")), "")
    with_ = f" with {method}" if method else ""
    minutes = f", in {run.result['seconds']['train'] / 60:.1f} minutes" if run.result else ""
    text = f" on {listed(corpus)}" if corpus else ""
    settings = flattened(run.result["settings"]) if run.result else run.settings  # it may have been resumed since
    trained = "trained" if run.result else "to be trained"
    return f"{_network(run)}, {trained}{text} for {duration(settings)}{with_}{minutes}."


def _ended(run: Run, result: Mapping[str, Any], twin: Run | None) -> list[str]:
    return [verdict(result), _cost(run, result, twin), _gain(result)]


def _cost(run: Run, result: Mapping[str, Any], twin: Run | None) -> str:
    """Return the compact model's score, compared with a dense run, if one is given."""
    key = next((key for key in (run.measure.test, run.measure.valid) if key in result), None)
    if key is None:
        return ""
    ours = result[key]["compact"]
    text = f"The compact model has {in_words(key)} {ours:.2f}"
    if twin is None or twin.result is None or key not in twin.result:
        return f"{text}."
    theirs = twin.result[key]["compact"]
    if f"{ours:.2f}" == f"{theirs:.2f}":
        return f"{text}, as has the dense network."
    better = (ours > theirs) == run.measure.rising
    return f"{text}, the dense network {theirs:.2f}: {abs(ours - theirs):.2f} {'better' if better else 'worse'}."


def _gain(result: Mapping[str, Any]) -> str:
    """Return how much cheaper the compact model is; empty if nothing was removed."""
    if result["components"]["full"] == result["components"]["compact"]:
        return ""
    seconds, parts = result["seconds"], []
    if result.get("multiply_adds", {}).get("compact"):
        factor = result["multiply_adds"]["full"] / result["multiply_adds"]["compact"]
        parts.append(f"needs {factor:.1f} times fewer multiply-adds")
    if seconds.get("evaluate_compact") and "evaluate_full" in seconds:
        factor = seconds["evaluate_full"] / seconds["evaluate_compact"]
        parts.append(f"was evaluated {factor:.1f} times as fast" if factor >= 1 else "was not evaluated faster")
    return f"It {' and '.join(parts)}." if parts else ""


def labels(runs: Mapping[str, Run]) -> dict[str, Run]:
    """Return the runs under labels that say in which settings they differ; where these do not differ or are long,
    under the given ones, the names of their folders.
    """
    flat = [run.settings for run in runs.values()]
    names = sorted({name for one in flat for name in one} - PLACES - {"method", "strength"})
    differ = [name for name in names if len({str(one.get(name)) for one in flat}) > 1]
    readable = [_label(one, differ) for one in flat]
    fine = len({*readable}) == len(flat) and max(map(len, readable)) <= 40
    return dict(zip(readable if fine else runs, runs.values(), strict=True))


def _label(settings: Mapping[str, Any], differ: list[str]) -> str:
    method, strength = str(settings.get("method", "run")), settings.get("strength", "")
    if method in ("prox", "released"):
        name = "ISS" if method == "prox" else "released"
        method = f"{name} {' + '.join(map(str, strength)) if isinstance(strength, list) else strength}"
    return ", ".join([method, *(f"{name.replace('_', ' ')} {listed(settings.get(name))}" for name in differ)])


def about(run: Run) -> dict[str, str]:
    """Return what was trained, when, with which seed and versions."""
    of, result = run.settings, run.result or {}
    strength = f", strength {listed(of.get('strength'))}" if of.get("method") in ("prox", "released") else ""
    for unit in ("epoch", "step"):
        last = of.get(f"penalty_{unit}s")
        rest = of.get("final_penalty_scale")
        then = f"{rest:g} of it" if rest else "dense"
        strength += f", to {unit} {last}, then {then}" if strength and last else ""
    machine = result.get("versions", {})
    versions = [f"{name} {machine[name]}" for name in ("issref", "python", "numpy", "numba") if name in machine]
    versions += [f"{pool['internal_api']} {pool['version']}" for pool in machine.get("blas", ())]
    found = {
        "Model": model(of),
        "Method": f"{of.get('method', 'not recorded')}{strength}",
        "Text": _corpus(result.get("corpus", {}), run.measure.unit) or str(of.get("corpus", "not recorded")),
        "Training": duration(of),
        "Seed": f"{of.get('seed')}",
        "Precision": str(of.get("dtype", "")),
        "When": run.when,
        "Versions": ", ".join(versions) or "recorded when a run ends",
        "Machine": machine.get("machine", ""),
    }
    return {name: text for name, text in found.items() if text}


def duration(settings: Mapping[str, Any]) -> str:
    """Return the planned epochs or steps of a run."""
    return f"{settings['epochs']} epochs" if "epochs" in settings else f"{settings.get('steps', 0):,} steps"


def model(settings: Mapping[str, Any]) -> str:
    """Return the network of a run; "not recorded" for settings of another version."""
    if "hidden_size" in settings:
        return f"BiDAF of {settings['hidden_size']} units in each direction"
    try:
        network = LANGUAGE_MODELS[settings["model"]]
        return network.describe(network.configure(1, settings))
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return "not recorded"


def _corpus(corpus: Mapping[str, Any], unit: str) -> str:
    words = f", {corpus['train']:,} {unit} to train on" if "train" in corpus else ""
    vocabulary = f", vocabulary {corpus['vocabulary']:,}" if "vocabulary" in corpus else ""
    return f"{corpus.get('name', '')}{words}{vocabulary}"


def verdict(result: Mapping[str, Any]) -> str:
    """Return the main result: the components removed, the difference between full and compact model."""
    full, small = (result["components"][one] for one in BOTH)
    left = "No component was removed"
    if full != small:
        left = f"Of {total(full)} components {total(small)} are left: {change(result['parameters'])} parameters"
        left += f", {change(result['multiply_adds'])} multiply-adds" if "multiply_adds" in result else ""
    same = ""
    if "max_output_difference" in result:
        words = f"Over {result['compared_words']:,} words the" if "compared_words" in result else "The"
        most = f"the largest output is {result['largest_logit']:.1f}" if "largest_logit" in result else ""
        found = difference_phrase(result["max_output_difference"])
        same = f" {words} outputs of the full and the compact model {found}{most and '; '}{most}."
    return f"{left}.{same}"


def cuts(result: Mapping[str, Any]) -> str:
    """Return how often components were cut out during training; empty if never."""
    found = result.get("cuts", {})
    if not found.get("count"):
        return ""
    difference = found["max_output_difference"]
    change = f"differed by at most {difference:.1e}" if difference else "stayed equal"
    return (
        f"Components were cut out {found['count']} times during training; at each cut the outputs over the next "
        f"batch {change}."
    )


# ---------------------------------------------------------------- alternative texts of figures


def describe_measure(rows: Rows) -> str:
    """Return the first and the last value of the measure."""
    measure, first, last = measure_of(rows), rows[0], rows[-1]
    train = "" if measure.rising or measure.train not in last else f", training {last[measure.train]:.4g}"
    return (
        f"{measure.name} over {len(rows)} epochs: validation {first[measure.valid]:.4g} after the first, "
        f"{last[measure.valid]:.4g} after the last{train}."
    )


def describe_loss(rows: Rows) -> str:
    """Return the training loss over the last epoch."""
    last = rows[-1]["trace"][-1][measure_of(rows).train]
    return f"Training loss over {len(rows)} epochs: {last:.4g} in the last."


def describe_alive(rows: Rows) -> str:
    """Return the first and the last number of components alive in each space."""
    first, last = rows[0]["trace"][0]["alive"], rows[-1]["alive"]
    return (
        "Components alive: " + ", ".join(f"{space} from {first[space]} to {last[space]}" for space in last) + "."
    )


def describe_norms(norms: Norms) -> str:
    """Return how many norms are zero in each space."""
    dead = (
        f"{space}, {int((values == 0).sum())} of {len(values)} exactly zero" for space, values in norms.items()
    )
    return f"Histogram of the norms of the groups: {'; '.join(dead)}."
