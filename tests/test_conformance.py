"""The conformance suite: its contents, issref's own scores, and the command with ports and bad files."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import save_file

from issref import crosscheck, kernels
from issref.iss.groups import iss_groups
from issref.iss.layout import Layout
from issref.iss.penalty import penalty
from issref.iss.prox import prox
from issref.kernels import reference
from issref.training.checkpoint import strip_prefix
from issref.verify.formats import files
from issref.verify.suite import cases, conformance, long_double, reference_port, scoring
from issref.verify.suite.diagnosis import explain
from issref.verify.suite.naive_lstm import naive_lstm

FOLDER = conformance.VECTORS / str(conformance.VERSION)
SUITE = conformance.load()
EXTENDED = np.finfo(np.longdouble).eps < 1e-18  # on some machines long double is double
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())


def to_long_double(arrays):
    return {name: values.astype(np.longdouble) for name, values in arrays.items()}


def failures(port, suite=SUITE):
    outputs, raised = conformance.run(port, suite, conformance.DTYPES)
    return [one for one in scoring.score(suite, outputs, raised) if one.verdict != "pass"]


# the suite
# ---------


def test_the_manifest_fits_its_schema():
    schema = json.loads((FOLDER / "manifest.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(MANIFEST)
    broken = [{**MANIFEST, "suite": "1"}, {**MANIFEST, "cases": [{**MANIFEST["cases"][0], "ulp": 64}]}]
    for manifest in broken:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(schema).validate(manifest)


@pytest.mark.parametrize("dtype", conformance.DTYPES)
def test_the_manifest_describes_every_tensor(dtype):
    for side, arrays, precision in (
        ("inputs", SUITE.inputs[dtype], dtype),
        ("outputs", SUITE.expected[dtype], "float64"),
    ):
        described = {
            f"{case['name']}/{key}": kind
            for case in MANIFEST["cases"]
            for key, kind in case[side].items()
            if dtype in case["ulp"]
        }
        assert described.keys() == arrays.keys()
        for name, kind in described.items():
            assert list(arrays[name].shape) == kind["shape"], name
            assert arrays[name].dtype == (precision if kind["dtype"] == "float" else kind["dtype"]), name
            assert np.isfinite(arrays[name]).all(), name


def test_the_suite_is_small_and_explains_itself():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1_000_000
    assert SUITE.version == conformance.VERSION == MANIFEST["suite"]
    assert {pitfall for case in SUITE.cases for pitfall in case["guards"]} == SUITE.pitfalls.keys()
    assert {case["op"] for case in SUITE.cases} == reference_port.OPS.keys()
    bold = " ".join(re.findall(r"\*\*(.*?)\*\*", (FOLDER / "README.md").read_text()))
    assert reference_port.OPS.keys() <= set(re.findall(r"\w+", bold))


def test_weights_are_distinct_in_every_gate():
    for dtype, name in ((dtype, name) for dtype in conformance.DTYPES for name in ("lstm", "lstm-square", "rhn")):
        weights = [values for key, values in strip_prefix(SUITE.inputs[dtype], name).items() if key[0] in "kb"]
        assert len(np.unique(np.concatenate([each.ravel() for each in weights]))) == sum(
            each.size for each in weights
        )


def test_a_changed_file_is_not_the_suite(tmp_path, monkeypatch):
    conformance.copy_to(tmp_path / "1")
    path = tmp_path / "1" / "float32.inputs.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    monkeypatch.setattr(conformance, "VECTORS", tmp_path)
    with pytest.raises(ValueError, match=r"float32\.inputs\.safetensors: expected sha256 \w{64}, got \w{64}"):
        conformance.load.__wrapped__(1)


# the expected values
# -------------------


def test_generating_gives_the_same_bytes_twice_and_the_shipped_vectors(tmp_path):
    """Another libm may round long doubles differently: shipped values may differ by 1 ulp or the tolerance."""
    for folder in ("one", "two"):
        command = (sys.executable, "-m", "issref.verify.suite.generate", str(tmp_path / folder))
        subprocess.run(command, cwd=Path(__file__).parents[1], check=True)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["float32.expected.safetensors", "float32.inputs.safetensors",
                     "float64.expected.safetensors", "float64.inputs.safetensors", "manifest.json"]  # fmt: skip
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    again = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert {**again, "files": MANIFEST["files"]} == MANIFEST
    for dtype in conformance.DTYPES:
        inputs = files.read(tmp_path / "one" / f"{dtype}.inputs.safetensors")
        expected = files.read(tmp_path / "one" / f"{dtype}.expected.safetensors")
        rounded = set()  # cases whose shares, which come out of a pass of sums, are rounded otherwise
        for name, values in SUITE.inputs[dtype].items():
            if name.endswith("/share") and not np.array_equal(inputs[name], values):
                most = len(values) * np.finfo(values.dtype).eps * np.abs(values).max()
                np.testing.assert_allclose(inputs[name], values, rtol=0, atol=most)
                rounded.add(name.removesuffix("/share"))
            else:
                np.testing.assert_array_equal(inputs[name], values)
        for case in (case for case in SUITE.cases if case["name"] not in rounded):
            found = strip_prefix(expected, case["name"])
            for key, values in strip_prefix(SUITE.expected[dtype], case["name"]).items():
                assert conformance.ulps(found[key], values, "float64") <= (
                    1 if EXTENDED else case["ulp"]["float64"]
                )


@pytest.mark.parametrize("name", [name for name, case in cases.CASES.items() if case.op == "lstm"])
def test_the_naive_lstm_in_long_double_gives_the_expected_values(name):
    """Two independent programs agree to the last digits; the naive one keeps its sums in float64."""
    found = naive_lstm(to_long_double(strip_prefix(SUITE.inputs["float64"], name)), **cases.CASES[name].keywords)
    for key, values in strip_prefix(SUITE.expected["float64"], name).items():
        assert conformance.ulps(found[key], values, "float64") <= 4, key


@pytest.mark.parametrize("name", [name for name, case in cases.CASES.items() if case.op == "prox"])
def test_expected_proximal_steps_are_minima_beyond_float64(name):
    case, given = cases.CASES[name], strip_prefix(SUITE.inputs["float64"], name)
    groups = iss_groups(Layout.from_json(json.dumps(case.keywords["layout"])), case.keywords["strength"])
    strength = groups.spread(case.keywords["strength"])
    expected, dead = long_double.prox(to_long_double(given), groups, strength)

    def objective(weights):
        moved = sum(np.sum((weights[array] - given[array]) ** 2) for array in groups.ids)
        return moved / 2 + penalty(weights, groups, strength)[0]

    rng = np.random.default_rng(0)
    for size in 10.0 ** -np.arange(1, 10 if EXTENDED else 7):  # at 1e-9 the objective changes by 1e-17
        other = {key: values + size * rng.standard_normal(values.shape) for key, values in expected.items()}
        assert objective(other) > objective(expected)
    found, certificate = prox(given, groups, strength)
    distance = math.sqrt(sum(float(np.sum((found[array] - expected[array]) ** 2)) for array in groups.ids))
    assert distance <= math.sqrt(2 * certificate.gap) + 1e-15
    np.testing.assert_array_equal(certificate.dead, dead)
    for values in (expected[array] for array in groups.ids if expected[array].any()):  # what the README promises
        allowed = case.ulp["float64"] * float(np.spacing(np.float64(np.abs(values).max())))
        assert math.sqrt(2 * case.relative_gap["float64"] * float(objective(expected))) <= allowed


# issref as a port
# ----------------


def test_the_jitted_kernels_pass_with_half_of_what_is_allowed_to_spare():
    """Tolerances leave room for another order of summation."""
    outputs, raised = conformance.run(reference_port.answer, SUITE, conformance.DTYPES)
    for one in scoring.score(SUITE, outputs, raised):
        assert one.verdict == "pass", one
        assert one.ulp <= one.most / 2, one


def test_the_plain_kernels_pass(monkeypatch):
    for name in (name for name in vars(kernels) if hasattr(reference, name) and not name.startswith("_")):
        if callable(getattr(reference, name)):
            monkeypatch.setattr(kernels, name, getattr(reference, name))
    assert failures(reference_port.answer) == []


# the score
# ---------


def test_ulps_count_units_of_the_largest_entry():
    expected = np.array([1.0, 1.5])
    for dtype in conformance.DTYPES:
        eps = np.finfo(dtype).eps
        assert conformance.ulps(expected + np.array([3 * eps, 0]), expected, dtype) == 3
        assert conformance.ulps(expected, expected, dtype) == 0
        assert conformance.ulps(2 * expected + np.array([0, 2 * eps]), 2 * expected, dtype) == 1
    assert conformance.ulps(np.zeros(2), np.zeros(2), "float64") == 0
    assert conformance.ulps(np.full(2, 1e-300), np.zeros(2), "float64") == np.inf
    assert conformance.ulps(np.zeros((0, 3)), np.zeros((0, 3)), "float32") == 0


def test_no_mistake_explains_what_is_right_or_what_is_noise():
    suite = SUITE.chosen(["lstm*"])
    for noise in (0.0, 1e-3):
        outputs, problems = conformance.run(
            lambda *told, noise=noise: {
                key: values + values.dtype.type(noise) for key, values in reference_port.answer(*told).items()
            },
            suite,
            ["float64"],
        )
        findings = explain(suite, outputs, scoring.score(suite, outputs, problems))
        assert [(one.op, one.first, one.mistakes, one.patterns) for one in findings] == (
            [("lstm", "hidden", (), ())] if noise else []
        )


def overwrites(case, op, inputs, keywords):
    outputs = {key: values.copy() for key, values in reference_port.answer(case, op, inputs, keywords).items()}
    for values in inputs.values():
        values[...] = 0
    keywords.clear()
    return outputs


def test_suite_1_allows_a_port_to_spoil_its_inputs_and_suite_2_does_not():
    names = ["lstm-reverse", "penalty*"]
    assert failures(overwrites, conformance.load(1).chosen(names)) == []
    failed = failures(overwrites, SUITE.chosen(names))
    assert {one.case for one in failed} == {case["name"] for case in SUITE.chosen(names).cases}
    assert all(
        ": expected the input to be left as it is, got other numbers in it" in one.problem for one in failed
    )
    assert failures(reference_port.answer, SUITE.chosen(names)) == []  # the suite's own arrays are as before


def test_a_port_may_use_its_output_buffers_again():
    buffers = {}

    def port(case, op, inputs, keywords):
        for key, values in reference_port.answer(case, op, inputs, keywords).items():
            buffer = buffers.setdefault((key, values.shape, values.dtype), np.empty_like(values))
            buffer[...] = values
        return {
            key: buffers[key, values.shape, values.dtype]
            for key, values in reference_port.answer(case, op, inputs, keywords).items()
        }

    assert failures(port, SUITE.chosen(["lstm*", "rhn*"])) == []


def test_a_port_may_not_keep_its_state():
    state = {}

    def port(case, op, inputs, keywords):
        outputs = reference_port.answer(case, op, {**inputs, **state}, keywords)
        state["h0"] = outputs["h"].copy()
        return outputs

    failed = failures(port, SUITE.chosen(["lstm"]))[0]
    assert failed.problem == "hidden: expected the same numbers from every call, got others from the last call"


def test_a_big_endian_port_passes_without_a_warning(recwarn):
    def port(*told):
        return {
            key: values.astype(values.dtype.newbyteorder(">"))
            for key, values in reference_port.answer(*told).items()
        }

    assert failures(port, SUITE.chosen(["lstm", "prox-lstm", "compact"])) == []
    assert [str(one.message) for one in recwarn] == []


def test_the_first_wrong_forward_output_is_named_not_the_worst():
    def port(*told):
        outputs = reference_port.answer(*told)
        return {**outputs, "dkernel": outputs["dkernel"] + 1e6, "h": outputs["h"] + 1e-3}

    one = failures(port, SUITE.chosen(["lstm"]))[0]
    assert one.tensor == "h"
    assert [each.name for each in one.tensors if each.verdict == "fail"] == ["h", "dkernel"]
    assert [each.name for each in one.tensors] == ["hidden", "h", "c", "dx", "dh0", "dc0", "dkernel", "dbias"]


def test_forward_judges_the_dual():
    (case,) = SUITE.chosen(["gap"], forward=True).cases
    assert {"dual/lstm0", "dual/lstm1"} <= case["outputs"].keys()
    (case,) = SUITE.chosen(["penalty-rhn"], forward=True).cases
    assert case["outputs"].keys() == {"value"}


def test_suite_1_is_scored_as_before():
    suite = conformance.load(1)
    outputs, problems = conformance.run(reference_port.answer, suite, conformance.DTYPES)
    scores = scoring.score(suite, outputs, problems)
    assert len(scores) == 88
    assert {one.verdict for one in scores} == {"pass"}
    wrong, _ = conformance.run(
        lambda *told: {**reference_port.answer(*told), "dual/lstm0": np.zeros(4)},
        suite.chosen(["gap"]),
        ["float64"],
    )
    assert [one.verdict for one in scoring.score(suite.chosen(["gap"], forward=True), wrong, {})] == ["pass"]


@pytest.mark.parametrize("name", [name for name, case in cases.CASES.items() if case.op == "prox"])
def test_a_proximal_step_is_right_up_to_its_certified_gap(name):
    """The error is of no special kind: the solution is moved towards v until the objective has a known gap."""
    suite = SUITE.chosen([name])
    (case,), (given, expected) = suite.cases, suite.of(suite.cases[0], "float64")
    groups = iss_groups(Layout.from_json(json.dumps(case["keywords"]["layout"])), case["keywords"]["strength"])
    strength = groups.spread(case["keywords"]["strength"])

    def moved(step):
        arrays = {key: np.where(expected[key] == 0, 0, expected[key] + step * given[key]) for key in groups.ids}
        distance = sum(float(np.sum((arrays[key] - given[key]) ** 2)) for key in arrays)
        value = distance / 2 + penalty(arrays, groups, strength)[0]
        return {**expected, **arrays, "objective": np.array(value)}, value / float(expected["objective"]) - 1

    for wanted, verdict in ((0.5e-10, "pass"), (4e-10, "fail")):
        low, high = 0.0, 1.0
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if moved(middle)[1] < wanted else (low, middle)
        outputs, gap = moved(high)
        if gap < wanted / 2:  # everything is dead
            continue
        outputs = {"float64": {f"{name}/{key}": values for key, values in outputs.items()}}
        (one,) = scoring.score(suite, outputs, {})
        assert one.verdict == verdict, (gap, one.problem)


# the command
# -----------


def run(*arguments):
    return crosscheck.main([str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path):
    """The suite in a folder, and the outputs of issref for its LSTM cases."""
    assert run("vectors", tmp_path / "suite") == 0
    suite = SUITE.chosen(["lstm*"])
    for dtype, outputs in conformance.run(reference_port.answer, suite, conformance.DTYPES)[0].items():
        save_file(outputs, tmp_path / "suite" / f"{dtype}.outputs.safetensors")
    return tmp_path / "suite"


def rewrite(folder, dtype="float64", **changes):
    """Change tensors in a port's outputs, with __ for / in case/tensor; None removes one."""
    path = folder / f"{dtype}.outputs.safetensors"
    arrays = files.read(path)
    for name, change in changes.items():
        name = name.replace("__", "/").replace("_", "-")
        arrays[name] = change(arrays[name])
    save_file({name: values for name, values in arrays.items() if values is not None}, path)


@pytest.mark.parametrize("words", [["score", "."], ["port", "issref.verify.suite.reference_port:answer"]])
def test_a_report_without_a_folder_is_refused_before_any_work(words, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(conformance, "load", None)
    assert run(*words, "--json", tmp_path / "none" / "report.json") == 2
    said = capsys.readouterr()
    assert f"expected a folder to write to, got no {tmp_path / 'none'}" in said.err
    assert said.out == ""


def test_score_reads_back_what_a_port_wrote(folder, capsys):
    assert {path.name for path in FOLDER.iterdir()} <= {path.name for path in folder.iterdir()}
    assert run("score", folder, "--only", "lstm*", "--json", folder / "report.json") == 0
    assert "suite 2: 40 pass, 0 fail, 0 bad" in capsys.readouterr().out
    report = json.loads((folder / "report.json").read_text())
    assert (report["pass"], report["fail"], report["bad"], report["findings"]) == (40, 0, 0, [])
    assert {(case["case"], case["dtype"]) for case in report["cases"]} == {
        (case["name"], dtype) for case in SUITE.cases if case["op"] == "lstm" for dtype in conformance.DTYPES
    }
    (folder / "float32.outputs.safetensors").unlink()
    assert run("score", folder, "--only", "lstm*") == 0
    assert "suite 2: 20 pass, 0 fail, 0 bad" in capsys.readouterr().out


def test_a_failure_is_reported_with_its_size_and_its_pitfalls(folder, capsys):
    rewrite(folder, lstm__dkernel=lambda values: values + 1e-6)
    assert run("score", folder, "--only", "lstm", "lstm-reverse", "--json", folder / "report.json") == 1
    said = capsys.readouterr().out
    assert re.search(r"^lstm +\d+\.\d+ of 64 +FAIL \S+ of 64$", said, re.MULTILINE)
    assert re.search(r"^lstm, float64: dkernel: expected an error of at most 64 ulp, got \S+$", said, re.MULTILINE)
    assert f"pitfall: {SUITE.pitfalls['gates']}" in said
    assert "    fail: dkernel; pass: hidden, h, c, dx, dh0, dc0, dbias" in said
    assert "lstm: wrong from dkernel on, in 1 of 2 cases" in said
    assert json.loads((folder / "report.json").read_text())["fail"] == 1


def test_forward_leaves_gradients_out(folder, capsys):
    path = folder / "float32.outputs.safetensors"
    forward = {key: values for key, values in files.read(path).items() if "/d" not in key}
    save_file(forward, path)
    (folder / "float64.outputs.safetensors").unlink()
    assert run("score", folder, "--only", "lstm*", "--forward") == 0
    assert run("score", folder, "--only", "lstm*") == 2
    assert "lstm, float32: dx: expected this output, got c, h, hidden" in capsys.readouterr().out


BAD_OUTPUTS = {
    "missing": ({"lstm__h": lambda values: None}, "lstm, float64: h: expected this output, got c, dbias,"),
    "shape": ({"lstm__h": lambda values: values.T.copy()}, "lstm, float64: h: expected shape (3, 2), got (2, 3)"),
    "dtype": (
        {"lstm__h": lambda values: values.astype(np.float32)},
        "lstm, float64: h: expected float64, got float32",
    ),
    "NaN": (
        {"lstm__h": lambda values: np.where(values > 0, np.nan, values)},
        "lstm, float64: h: expected finite numbers, got ",
    ),
}


@pytest.mark.parametrize("kind", BAD_OUTPUTS)
def test_outputs_that_cannot_be_compared_are_named_in_a_sentence(kind, folder, capsys):
    changes, sentence = BAD_OUTPUTS[kind]
    rewrite(folder, **changes)
    assert run("score", folder, "--only", "lstm*", "--json", folder / "report.json") == 2
    said = capsys.readouterr().out
    assert said.count(sentence) == 1
    assert "suite 2: 39 pass, 0 fail, 1 bad" in said
    assert json.loads((folder / "report.json").read_text())["bad"] == 1


def test_a_name_that_no_case_has_is_told(folder, capsys):
    path = folder / "float64.outputs.safetensors"
    save_file({**files.read(path), "lstm/hiden": np.zeros(1)}, path)
    assert run("score", folder, "--only", "lstm") == 2
    assert "lstm, float64: hiden: expected one of hidden, h, c, dx, " in capsys.readouterr().out


def spoil(name, change):
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def no_outputs(folder):
    for path in folder.glob("*.outputs.safetensors"):
        path.unlink()


OUTPUTS = "float64.outputs.safetensors"
BAD_FILES = {
    "truncated": (spoil(OUTPUTS, lambda old: old[:-8]), f"{OUTPUTS}: expected a whole safetensors file, got "),
    "no safetensors": (
        spoil(OUTPUTS, lambda old: b"\x80\x04}."),
        f"{OUTPUTS}: expected a whole safetensors file, got ",
    ),
    "empty": (spoil(OUTPUTS, lambda old: b""), f"{OUTPUTS}: expected a whole safetensors file, got "),
    "no outputs": (
        no_outputs,
        "expected the outputs of your port, float32.outputs.safetensors or float64.outputs.safetensors (see ",
    ),
    "unknown version": (
        spoil("manifest.json", lambda old: old.replace(b'"suite": 2', b'"suite": 7')),
        "suite: expected version 1 or 2, got 7",
    ),
    "no version": (
        spoil("manifest.json", lambda old: old.replace(b'"suite": 2', b'"suite": "../1"')),
        "manifest.json, suite: expected a valid integer, got '../1'",
    ),
    "no manifest": (
        lambda folder: (folder / "manifest.json").unlink(),
        "manifest.json: expected a readable file, got No such file or directory",
    ),
    "no JSON": (
        spoil("manifest.json", lambda old: old[:99]),
        "manifest.json: expected JSON, got Invalid JSON: ",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_is_one_sentence(kind, folder, capsys):
    change, sentence = BAD_FILES[kind]
    change(folder)
    capsys.readouterr()
    assert run("score", folder) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err
    assert said.err.count("\n") == 1


def test_vectors_are_copied_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("vectors", ".") == 0
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in FOLDER.iterdir()}


def test_vectors_does_not_write_over_anything(tmp_path, capsys):
    (tmp_path / "mine").write_text("")
    for path in (tmp_path, tmp_path / "mine"):
        assert run("vectors", path) == 2
        assert f"{path}: expected a new or empty folder, got one with files, or a file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


DRIFTS = """
from issref.verify.suite import reference_port
calls = []
def f(case, op, inputs, keywords):
    calls.append(case)
    found = reference_port.answer(case, op, inputs, keywords)
    return {name: values * len(calls) if name.startswith("d") else values for name, values in found.items()}
"""
PORTS = """
from issref.verify.suite import reference_port
def right(case, op, inputs, keywords):
    return reference_port.answer(case, op, inputs, keywords)
def swapped(case, op, inputs, keywords):
    return reference_port.answer(case, op, {**inputs, "h0": inputs["c0"], "c0": inputs["h0"]}, keywords)
def stops(case, op, inputs, keywords):
    raise SystemExit(0)
def silent(case, op, inputs, keywords):
    return {}
def unfinished(case, op, inputs, keywords):
    raise NotImplementedError(op)
"""


@pytest.fixture
def ports(tmp_path, monkeypatch):
    (tmp_path / "myport.py").write_text(PORTS)
    (tmp_path / "broken.py").write_text("import nothing_of_this_name")
    (tmp_path / "leaves.py").write_text("import sys; sys.exit(0)")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("function", "code", "sentence"),
    [
        ("right", 0, "suite 2: 1 pass, 0 fail, 0 bad"),
        ("swapped", 1, "lstm: h0 and c0 exchanged\n"),
        ("unfinished", 2, "lstm, float32: expected outputs, got NotImplementedError: lstm"),
        ("stops", 2, "lstm, float32: expected outputs, got SystemExit: 0"),
        ("silent", 2, "unanswered in float32, 1 of 1 cases: lstm"),
    ],
)
def test_a_python_port_is_run(function, code, sentence, ports, capsys):
    assert run("port", f"myport:{function}", "--only", "lstm", "--dtype", "float32") == code
    assert sentence in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("myport", "myport: expected module:function, got no such function"),
        ("myport:wrong", "myport:wrong: expected module:function, got no such function"),
        ("myport:answers", "myport:answers: expected module:function, got no such function"),
        ("no_module:f", "no_module:f: expected a module that can be imported, got ModuleNotFoundError: "),
        ("broken:f", "broken:f: expected a module that can be imported, got ModuleNotFoundError: "),
        ("leaves:f", "leaves:f: expected a module that can be imported, got SystemExit: 0"),
        (":f", ":f: expected a module that can be imported, got ValueError: "),
    ],
)
def test_a_port_that_is_not_there_is_one_sentence(name, sentence, ports, capsys):
    assert run("port", name) == 2
    assert sentence in capsys.readouterr().err


def test_cases_that_are_not_there_are_one_sentence(capsys):
    assert run("port", "issref.verify.suite.reference_port:answer", "--only", "lstn*") == 2
    assert "cases: expected a match for one of lstm, " in capsys.readouterr().err


def test_no_cases_are_a_refusal(ports, capsys):
    assert run("port", "myport:right", "--only") == 2
    assert "cases: expected at least one name or pattern, got none" in capsys.readouterr().err
    assert run("port", "myport:right", "--only", "prox-barely-alive", "--dtype", "float32") == 2
    assert "score: expected at least one case in float32, got none" in capsys.readouterr().err


def test_gradients_that_differ_between_calls_do_not_count_with_forward(ports, tmp_path, capsys):
    (tmp_path / "drifts.py").write_text(DRIFTS)
    port = ("port", "drifts:f", "--only", "lstm", "--dtype", "float32")
    assert run(*port) == 2
    assert "expected the same numbers from every call" in capsys.readouterr().out
    assert run(*port, "--forward") == 0


def test_a_traceback_is_printed_on_request(ports, capsys):
    for flags, wanted in (((), False), (("--traceback",), True)):
        assert run("port", "myport:unfinished", "--only", "lstm", "--dtype", "float32", *flags) == 2
        assert ("Traceback (most recent call last)" in capsys.readouterr().out) == wanted


def test_a_port_can_name_its_suite(ports, tmp_path, capsys):
    assert run("port", "myport:right", "--only", "lstm", "--suite", "1") == 0
    assert "suite 1: 2 pass, 0 fail, 0 bad" in capsys.readouterr().out
    assert run("vectors", tmp_path / "old", "--suite", "1") == 0
    assert conformance.version_in(tmp_path / "old") == 1
    assert run("vectors", tmp_path / "no", "--suite", "3") == 2
    assert "suite: expected version 1 or 2, got 3" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    assert run("port", "myport:right", "--suite", "3") == 2
    assert "suite: expected version 1 or 2, got 3" in capsys.readouterr().err


def test_the_command_runs_on_its_own_and_says_what_a_port_is():
    command = (sys.executable, "-m", "issref.crosscheck", "port", "--help")
    said = subprocess.run(
        command, cwd=Path(__file__).parents[1], check=True, capture_output=True, text=True
    ).stdout
    assert "function(case_name, op, inputs, keywords) -> outputs" in said


def test_a_copy_of_the_suite_that_fails_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(conformance.shutil, "copytree", full)
        with pytest.raises(OSError, match="No space"):
            conformance.copy_to(tmp_path / "new" / "port")
    assert list((tmp_path / "new").iterdir()) == []
    for _ in range(2):  # into a new folder, and into an empty one
        conformance.copy_to(tmp_path / "new" / "port")
        assert conformance.version_in(tmp_path / "new" / "port") == conformance.VERSION
        for path in (tmp_path / "new" / "port").iterdir():
            path.unlink()
