"""Check a port of ISS, or a pruned model, against the reference, and name its mistakes.

python -m issref.crosscheck vectors DIR             copy the test vectors, with a README on inputs and outputs
python -m issref.crosscheck score DIR               score the outputs that your port has written to DIR
python -m issref.crosscheck port module:function    run and score a Python port
python -m issref.crosscheck pruned BEFORE AFTER     compare two checkpoints, before and after pruning
python -m issref.crosscheck shrink IN OUT           cut dead units, or all but those to keep, out of a checkpoint
python -m issref.crosscheck convert IN OUT          convert an LSTM's or GRU's checkpoint to another format
"""

import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, Positional, arg

from issref.iss.layout import Params
from issref.training.checkpoint import write_whole
from issref.training.console import failed, log, prepare_streams
from issref.verify.formats.convert import convert
from issref.verify.formats.files import check_new
from issref.verify.pruned.compare import Report, compare_checkpoints, lines
from issref.verify.pruned.shrink import kept_units, shrink
from issref.verify.suite import conformance, scoring
from issref.verify.suite.conformance import Suite
from issref.verify.suite.diagnosis import explain

PROGRAM = "python -m issref.crosscheck"
DESCRIPTION = "Check a port of ISS, or a pruned model, against the reference, and name its mistakes."


@dataclass(frozen=True)
class Vectors:
    """Copy the suite to a folder: inputs, expected outputs, manifest, its schema, and a README."""

    dir: Positional[Annotated[Path, arg(metavar="DIR")]]
    """A new or empty folder."""
    suite: int = conformance.VERSION
    """The version of the suite."""

    def run(self) -> int:
        conformance.copy_to(self.dir, self.suite)
        log(f"suite {self.suite} copied to {self.dir}: see README.md for the outputs to write there, then `score`")
        return 0


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The choice of cases and the report."""

    only: tuple[str, ...] = ("*",)
    """Names or patterns of cases: --only 'lstm*' penalty-lstm."""
    forward: FlagCreatePairsOff[bool] = False
    """Ignore gradients."""
    json: Path | None = None
    """Also write the report to this JSON file."""

    def report(self, suite: Suite, outputs: Mapping[str, Params], problems: Mapping[tuple[str, str], str]) -> int:
        """Print the scores and what explains the failures.

        Return 0 if all cases pass, 1 if some fail, 2 if some cannot be compared.
        """
        suite = suite.chosen(self.only, forward=self.forward)
        scores = scoring.score(suite, outputs, problems)
        if not scores:
            raise ValueError(f"score: expected at least one case in {', '.join(outputs)}, got none")
        explained = explain(suite, outputs, scores)
        counts = {verdict: sum(one.verdict == verdict for one in scores) for verdict in ("pass", "fail", "bad")}
        log("\n".join([*scoring.lines(suite, scores), *(line for one in explained for line in one.lines())]))
        log(f"suite {suite.version}: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}")
        if self.json is not None:
            findings, cases = [one._asdict() for one in explained], [scoring.as_data(one) for one in scores]
            content = {"suite": suite.version, **counts, "findings": findings, "cases": cases}
            write_whole(self.json, json.dumps(content, indent=1).encode())
        return 2 if counts["bad"] else int(counts["fail"] > 0)


@dataclass(frozen=True, kw_only=True)
class Score(Scored):
    """Score the outputs of a port: float32.outputs.safetensors, float64.outputs.safetensors, or both."""

    dir: Positional[Annotated[Path, arg(metavar="DIR")]]
    """The folder that `vectors` wrote, with the outputs."""

    def run(self) -> int:
        check_new(self.json, overwrite=True)
        version, outputs = conformance.version_in(self.dir), conformance.outputs_in(self.dir)
        return self.report(conformance.load(version), outputs, {})


@dataclass(frozen=True, kw_only=True)
class Port(Scored):
    """Run a Python port: function(case_name, op, inputs, keywords) -> outputs.

    `inputs` and `outputs` are dictionaries of arrays by name, in the precision of the case, and `keywords` is a
    dictionary. The README that `vectors` copies describes them for each op. An example of a port is
    issref.verify.suite.reference_port:answer.
    """

    function: Positional[Annotated[str, arg(metavar="MODULE:FUNCTION")]]
    """A function in a module that Python can import."""
    dtype: Literal["float32", "float64"] | None = None
    """Score only this precision."""
    suite: int = conformance.VERSION
    """The version of the suite that the port was written for."""
    traceback: FlagCreatePairsOff[bool] = False
    """Print the tracebacks of the port's exceptions."""

    def run(self) -> int:
        check_new(self.json, overwrite=True)
        suite, port = conformance.load(self.suite).chosen(self.only, forward=self.forward), imported(self.function)
        dtypes = [self.dtype] if self.dtype else conformance.DTYPES
        return self.report(suite, *conformance.run(port, suite, dtypes, trace=self.traceback))


@dataclass(frozen=True)
class Pruned:
    """Compare an LSTM or GRU before and after pruning: which units were removed, and is it the same function?

    Files: .pt or .pth (a state dict), .onnx, .keras, .h5, .safetensors (names of issref, PyTorch, Flax, Keras or
    TensorFlow 1). Exit code 0: the same function; 1: another one; 2: the files do not decide it.
    """

    before: Positional[Annotated[Path, arg(metavar="BEFORE")]]
    """The model before pruning, dense or with zeros for the removed weights."""
    after: Positional[Annotated[Path, arg(metavar="AFTER")]]
    """The pruned, smaller model."""
    stack: str | None = None
    """Choice among several LSTMs in BEFORE: --stack 'decoder.lstm.*_l#'; '#' is any number."""
    stack_after: str | None = None
    """Choice among several LSTMs in AFTER."""
    reader: tuple[str, ...] = ()
    """All arrays in BEFORE that read the top layer: --reader fc.weight. The file does not record which ones do."""
    reader_after: tuple[str, ...] = ()
    """The same in AFTER, if they have other names there."""
    unrelated: tuple[str, ...] = ()
    """Other arrays as wide as a layer that was cut, but unrelated to its units: --unrelated 'embed*'."""
    forget_bias: float | None = None
    """The constant that a TensorFlow 1 cell in either file adds to its forget gate."""
    json: Path | None = None
    """Also write the report to this JSON file."""

    def run(self) -> int:
        check_new(self.json, True, self.before, self.after)
        choices = {name: value for name, value in vars(self).items() if name not in ("before", "after", "json")}
        return judge(compare_checkpoints(self.before, self.after, **choices), self.json)


@dataclass(frozen=True)
class Convert:
    """Convert the LSTM or GRU of a checkpoint, and nothing else in it, to the format of the new file's suffix.

    .pt and .pth are state dicts of PyTorch; .onnx is ONNX; .torch.safetensors, .flax.safetensors,
    .keras.safetensors and .tf1.safetensors use that framework's names; any other .safetensors, issref's.
    """

    source: Positional[Annotated[Path, arg(metavar="IN")]]
    """The file to read: .pt, .pth, .onnx, .keras, .h5, .safetensors."""
    target: Positional[Annotated[Path, arg(metavar="OUT")]]
    """The file to write."""
    stack: str | None = None
    """Choice among several LSTMs: --stack 'decoder.lstm.*_l#', one layer '*_l1', one direction '*_l0_reverse'."""
    forget_bias: float | None = None
    """The constant that a TensorFlow 1 cell, in the source or the target, adds to its forget gate."""
    overwrite: FlagCreatePairsOff[bool] = False
    """Overwrite an existing file."""

    def run(self) -> int:
        log("\n".join(convert(**vars(self))))
        return 0


@dataclass(frozen=True, kw_only=True)
class Shrink:
    """Cut units out of a checkpoint's LSTM or GRU, and write the smaller one in the same format.

    The outputs are compared, all other arrays copied, and the new sizes in your code printed. Exit code 0: the
    same function; 1: another one, since units that are read were not kept; 2: the file does not decide it.
    """

    source: Positional[Annotated[Path, arg(metavar="IN")]]
    """The file to read: .pt, .pth, .onnx, .keras, .h5, .safetensors."""
    target: Positional[Annotated[Path, arg(metavar="OUT")]]
    """The file to write."""
    dead: FlagCreatePairsOff[bool] = False
    """Cut the units that no output depends on: what reads them is zero, or is cut itself."""
    keep: Path | None = None
    """Or keep the units in this JSON file, {"lstm0": [0, 2, 3]}; layers that it leaves out are not cut."""
    stack: str | None = None
    """Choice among several LSTMs: --stack 'decoder.lstm.*_l#'; '#' is any number."""
    reader: tuple[str, ...] = ()
    """All arrays that read the top layer: --reader fc.weight. The file does not record which ones do."""
    unrelated: tuple[str, ...] = ()
    """Other arrays as wide as a layer to cut, but unrelated to its units: --unrelated 'embed*'."""
    overwrite: FlagCreatePairsOff[bool] = False
    """Overwrite an existing file."""
    json: Path | None = None
    """Also write the report to this JSON file."""

    def run(self) -> int:
        if self.dead == bool(self.keep):
            raise ValueError("shrink: expected one of --dead and --keep, got " + ("both" if self.dead else "none"))
        check_new(self.json, True, self.source, self.target, self.keep)
        choices = {name: getattr(self, name) for name in ("stack", "reader", "unrelated", "overwrite")}
        report, remarks = shrink(self.source, self.target, self.keep and kept_units(self.keep), **choices)
        log("\n".join([*remarks, f"{self.target}: written"]))
        return judge(report, self.json)


Command = Vectors | Score | Port | Pruned | Shrink | Convert


def judge(report: Report, path: Path | None) -> int:
    """Print a report, write it as JSON if there is a path, and return its exit code."""
    log("\n".join(lines(report)))
    if path is not None:
        write_whole(path, json.dumps(report._asdict(), indent=1).encode())
    return {True: 0, False: 1, None: 2}[report.preserved]


def imported(name: str) -> conformance.Port:
    """Return the function of "module:function". Raises ValueError if there is none."""
    module, _, function = name.partition(":")
    try:
        port: conformance.Port | None = getattr(importlib.import_module(module), function, None)
    except (Exception, SystemExit) as error:  # of the port's module
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"{name}: expected a module that can be imported, got {why}") from error
    if port is None or not callable(port):
        raise ValueError(f"{name}: expected module:function, got no such function")
    return port


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Return 0 for success, 1 if a check fails, 2 for bad input."""
    prepare_streams()
    try:
        return tyro.cli(Command, args=arguments, prog=PROGRAM, description=DESCRIPTION).run()
    except (ValueError, OSError) as error:
        return failed(str(error), 2)


if __name__ == "__main__":
    sys.exit(main())
