"""The mutation score: the conformance suite must catch every wrong implementation, and name the known mistakes.

`python tests/test_mutations.py` prints the score and writes it to benchmarks/results/mutation_score.json. All
outputs are in float64.
"""

import functools
import inspect
import json
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from mutants import MUTANTS, SUITE_2
from wrong import BY_HAND, CELLS, PLAIN, applied, compiled

from issref.kernels import reference
from issref.verify.suite import conformance, reference_port, scoring
from issref.verify.suite.diagnosis import explain
from issref.verify.suite.mistakes import MISTAKES

SUITE = conformance.load()
STORED = Path(__file__).parents[1] / "benchmarks" / "results" / "mutation_score.json"
KNOWN = {name: mutant.known for name, mutant in MUTANTS.items() if mutant.known}
EQUIVALENT = {  # mutants that compute the right numbers for all inputs, and why
    "clip: 0 / 0 without gradients": "min(1, most / 0) is min(1, inf) = 1 in IEEE arithmetic, the right scale."
}


def scored(port, *cases):
    suite = SUITE._replace(cases=cases)
    outputs, raised = conformance.run(port, suite, ["float64"])
    return outputs, scoring.score(suite, outputs, raised)


@functools.cache
def judged(name):
    """Return the first case that a mutant fails, None if it passes all, and the finding of its op."""
    mutant = MUTANTS[name]
    cases = [case for case in SUITE.cases if case["op"] in mutant.ops.split()]
    with applied(mutant.patches):
        outputs, scores = scored(mutant.port, *cases)
    failed = (one.case for one in scores if one.verdict != "pass")
    return next(failed, None), next(iter(explain(SUITE, outputs, scores)), None)


def caught_by(name):
    return judged(name)[0]


def causes(name):
    """Return the causes that the diagnosis names: known mistakes, or else patterns of the first wrong output."""
    finding = judged(name)[1]
    return [*finding.mistakes, *(f"{finding.first} is {pattern}" for pattern in finding.patterns)]


def is_true(name):
    """Whether the diagnosis names the cause, or else, without a cause, the first wrong output."""
    mutant, finding = MUTANTS[name], judged(name)[1]
    if finding.mistakes or mutant.known:
        return mutant.known in causes(name)
    return any(fnmatchcase(finding.first, pattern) for pattern in mutant.first.split("|"))


def score():
    """Return the score as data."""
    wrong = [name for name in MUTANTS if name not in EQUIVALENT]
    caught = [name for name in wrong if caught_by(name) is not None]
    return {
        "suite": SUITE.version,
        "mutants": len(wrong),
        "caught": len(caught),
        "known": len(KNOWN),
        "named": sum(known in causes(name) for name, known in KNOWN.items()),
        "true": sum(map(is_true, caught)),
        "named_wrongly": [name for name in caught if judged(name)[1].mistakes and not is_true(name)],
        "for_suite_2": len(SUITE_2),
        "by_hand": len(BY_HAND),
        "from_the_list": len(PLAIN),
        "operators": {cell: len(table) for cell, table in CELLS.items()},
        "equivalent": EQUIVALENT,
        "caught_by": {name: caught_by(name) for name in MUTANTS},
    }


@pytest.mark.parametrize("cell", CELLS)
def test_a_kernel_with_nothing_changed_is_not_caught(cell):
    """A replaced kernel without a change passes: only changes are caught."""
    same = compiled(reference, cell, inspect.getsource(getattr(reference, cell)))
    cases = [case for case in SUITE.cases if case["op"] in ("lstm", "rhn")]
    with applied([(reference, cell, same)]):
        assert {one.verdict for one in scored(reference_port.answer, *cases)[1]} == {"pass"}


@pytest.mark.parametrize("name", BY_HAND | PLAIN | SUITE_2)
def test_the_suite_catches(name):
    assert (caught_by(name) is None) == (name in EQUIVALENT)


@pytest.mark.parametrize("cell", CELLS)
def test_the_suite_catches_every_change_of_an_operator(cell):
    assert [name for name in CELLS[cell] if caught_by(name) is None] == [*(EQUIVALENT.keys() & CELLS[cell])]


@pytest.mark.parametrize("name", KNOWN)
def test_the_diagnosis_names(name):
    assert KNOWN[name] in causes(name)


def test_the_stored_score_is_this_one():
    assert {mutant.known for mutant in PLAIN.values()} == MISTAKES.keys()
    assert score()["named_wrongly"] == []
    assert len(BY_HAND) >= 60
    assert score() == json.loads(STORED.read_text())


if __name__ == "__main__":
    found = score()
    STORED.write_text(json.dumps(found, indent=1) + "\n")
    percent = 100 * found["caught"] / found["mutants"]
    print(f"mutation score {percent:.1f} %: {found['caught']} of {found['mutants']} wrong implementations caught,")
    print(f"{found['named']} of {found['known']} with a known mistake or a pattern are named;")
    print(f"{found['true']} of {found['caught']} diagnoses are true")
