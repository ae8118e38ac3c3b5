"""Hold a port of ISS, or a pruned model, against the reference, and be told which mistake it makes.

python -m issref.crosscheck vectors DIR             the suite, with a README: what to read, what to write back
python -m issref.crosscheck score DIR               the outputs that a port wrote there, case by case
python -m issref.crosscheck port module:function    a Python port, called directly
python -m issref.crosscheck pruned BEFORE AFTER     two checkpoints of an LSTM: what was removed, what broke
python -m issref.crosscheck convert IN OUT          an LSTM's checkpoint in another framework's format
"""

import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Literal

import tyro

from issref.iss.layout import Params
from issref.training.checkpoint import write_whole
from issref.training.console import failed
from issref.verify.formats.convert import convert
from issref.verify.pruned import lines, pruned
from issref.verify.suite import conformance
from issref.verify.suite.conformance import Suite
from issref.verify.suite.diagnosis import explain

PROGRAM = "python -m issref.crosscheck"
SAYS = "Hold a port of ISS, or a pruned model, against the reference, and be told which mistake it makes."


@dataclass(frozen=True)
class Vectors:
    """Copy the suite to a folder: inputs, expected outputs, manifest, its schema, and a README for a port."""

    dir: tyro.conf.Positional[Path]
    """A folder that is new or empty."""

    def run(self) -> int:
        conformance.copy_to(self.dir)
        print(f"suite {conformance.VERSION} is in {self.dir}: README.md says what to write there for `score`")
        return 0


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What of the suite is asked for, and where the report goes."""

    only: tuple[str, ...] = ("*",)
    """Cases, by name or pattern: --only 'lstm*' penalty-lstm."""
    forward: tyro.conf.FlagCreatePairsOff[bool] = False
    """Leave the gradients out."""
    json: Path | None = None
    """Write the report to this file too."""

    def report(self, suite: Suite, outputs: Mapping[str, Params], raised: Mapping[tuple[str, str], str]) -> int:
        """Table, what is off, what explains it; 0 if all pass, 1 if some fail, 2 if some cannot be compared."""
        suite = suite.chosen(self.only, forward=self.forward)
        scores = conformance.score(suite, outputs, raised)
        explained = explain(suite, outputs, scores)
        verdicts = [one.verdict for one in scores]
        counts = {verdict: verdicts.count(verdict) for verdict in ("pass", "fail", "bad")}
        print("\n".join(conformance.lines(suite, scores)))
        if any(one.op == "lstm" and one.verdict == "fail" for one in scores):
            print("explains all LSTM cases:", "; ".join(explained) or "none of the known mistakes")
        print(f"suite {suite.version}: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}")
        if self.json is not None:
            cases = [{**one._asdict(), "ulp": one.ulp if isfinite(one.ulp) else None} for one in scores]
            content = {"suite": suite.version, **counts, "explained_by": explained, "cases": cases}
            write_whole(self.json, json.dumps(content, indent=1).encode())
        return 2 if counts["bad"] else int(counts["fail"] > 0)


@dataclass(frozen=True, kw_only=True)
class Score(Scored):
    """Score float32.outputs.safetensors and float64.outputs.safetensors, one or both, in a folder."""

    dir: tyro.conf.Positional[Path]
    """The folder that `vectors` filled."""

    def run(self) -> int:
        suite = conformance.load(conformance.version_in(self.dir))
        return self.report(suite, conformance.outputs_in(self.dir), {})


@dataclass(frozen=True, kw_only=True)
class Port(Scored):
    """Run a Python port: function(case_name, op, inputs, keywords) -> outputs.

    `inputs` and `outputs` are dictionaries of arrays by name, in the precision asked for, and `keywords` is a
    dictionary; the README that `vectors` copies says what each op has. An example of a port is
    issref.verify.suite.reference_port:answer.
    """

    function: tyro.conf.Positional[str]
    """module:function, the module importable from here."""
    dtype: Literal["float32", "float64"] | None = None
    """One precision instead of both."""

    def run(self) -> int:
        suite, port = conformance.load().chosen(self.only), imported(self.function)
        outputs, raised = conformance.run(port, suite, [self.dtype] if self.dtype else conformance.DTYPES)
        return self.report(suite, outputs, raised)


@dataclass(frozen=True)
class Pruned:
    """Whether a pruned LSTM computes the same as before: which units were removed, and if not, where it broke.

    Files of a plain stacked LSTM, each of any of these: .pt, .pth (a state dict), .onnx, .safetensors (names of
    issref, PyTorch, Flax, Keras or TensorFlow 1).
    """

    before: tyro.conf.Positional[Path]
    """The model before, whole or masked, with zeros in place."""
    after: tyro.conf.Positional[Path]
    """The smaller model."""
    stack: str | None = None
    """Which LSTM of BEFORE is meant, if there are several: --stack 'decoder.lstm.*_l#'."""
    stack_after: str | None = None
    """The same for AFTER."""
    json: Path | None = None
    """Write the report to this file too."""

    def run(self) -> int:
        report = pruned(self.before, self.after, self.stack, self.stack_after)
        print("\n".join(lines(report)))
        if self.json is not None:
            write_whole(self.json, json.dumps(report._asdict(), indent=1).encode())
        return int(not report.preserved)


@dataclass(frozen=True)
class Convert:
    """Write the LSTM of a checkpoint, and nothing else of it, in the format that the new file's name says.

    .pt, .pth: a state dict of PyTorch; .onnx; .torch.safetensors, .flax.safetensors, .keras.safetensors,
    .tf1.safetensors: arrays under these names; else .safetensors: under those of issref.
    """

    source: tyro.conf.Positional[Path]
    """The file to read: .pt, .pth, .onnx, .safetensors."""
    target: tyro.conf.Positional[Path]
    """The file to write."""
    stack: str | None = None
    """Which LSTM is meant, if there are several: --stack 'decoder.lstm.*_l#'."""
    forget_bias: float = 0.0
    """The constant that a TensorFlow 1 cell adds to its forget gate, on either side."""
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False
    """Let the new file take the place of another."""

    def run(self) -> int:
        choices = {"stack": self.stack, "forget_bias": self.forget_bias, "overwrite": self.overwrite}
        print("\n".join(convert(self.source, self.target, **choices)))
        return 0


Command = Vectors | Score | Port | Pruned | Convert


def imported(name: str) -> conformance.Port:
    """The function that module:function names; ValueError in a sentence if there is none."""
    module, _, function = name.partition(":")
    try:
        port: conformance.Port | None = getattr(importlib.import_module(module), function, None)
    except Exception as error:  # of whatever kind: the module is the port's
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"{name}: expected a module that can be imported, got {why}") from error
    if port is None or not callable(port):
        raise ValueError(f"{name}: expected module:function, got no such function")
    return port


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if all is well, 1 if something fails, 2 for bad input."""
    try:
        return tyro.cli(Command, args=arguments, prog=PROGRAM, description=SAYS).run()
    except (ValueError, OSError) as error:
        return failed(str(error), 2)


if __name__ == "__main__":
    sys.exit(main())
