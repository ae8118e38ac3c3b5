"""All wrong implementations, by name and with their labels: those of suite 1, and those written for suite 2."""

import functools
from fnmatch import fnmatchcase

from wrong import SUITE_1
from wrong_edges import EDGE_TABLES
from wrong_gru import GRUS
from wrong_solvers import PROX

KERNELS = "lstm0/kernel|gru0/kernel|embed/kernel|micro0/kernel"
TRAINED = "loss|params/*"  # after several steps the loss, after one only the parameters
# The first wrong output of the mutants of suite 1, by patterns of names; | is between alternatives.
FIRST = {
    "*gradients of the gates in the order*": "dkernel",
    "*the first state's gradients exchanged": "dh0",
    "*gradient* arriving at h*": "dx",
    "*gradient* arriving at c*": "dx",
    "*gradient not carried through*": "dx",
    "*slope of tanh(c) left out*": "dx",
    "*dkernel from *": "dkernel",
    "*dbias counted twice": "dbias",
    "*weight gradients averaged over the batch": "dkernel",
    "*h and c returned exchanged": "h",
    "lstm: gradients beyond the end leak": "dx",
    "lstm: the state goes on beyond the end": "h",
    "bidirectional: dx of one direction": "dx",
    "stacked: no mask on the input": "lstm0/h",
    "stacked: no mask between the layers": "lstm1/h",
    "stacked: one mask for all steps": "lstm1/h",
    "stacked: no mask on the output": "hidden",
    "stacked: the gradient skips the masks": "lstm1/d*",
    "dropout: mask left out of the gradient": "dx",
    "dropout: *": "y",
    "rhn: state mask left out of dkernel": "dkernel0",
    "rhn: state mask left out of the gradient": "dx",
    "rhn: input mask left out of dx": "dx",
    "rhn: the gradient *": "dx",
    "cross-entropy: dloss left out": "dlogits",
    "cross-entropy: gradient *": "dlogits",
    "cross-entropy: *": "loss",
    "clip: the norm's root left out": "norm",
    "clip: the largest array's norm": "norm",
    "clip: *": "a",
    "groups: *": "norms/*",
    "norms: *": "norms/*",
    "penalty: 0 / 0 at a group of zeros": "d/*",
    "penalty: gradient *": "d/*",
    "penalty: *": "value",
    "prox: alive told of the weights before": "alive/*",
    "prox: objective without the half": "objective",
    "prox: *": KERNELS,
    "gap: squares of every pair twice": "objective",
    "gap: *": "gap",
    "train: the state is not carried": "loss",
    "train: no masks": "loss",
    "train: targets one step off": "loss",
    "train: mean over the steps": "loss",
    "train: word masks by place, not by word": "loss",
    "train: *": TRAINED,
    "prox step: *": TRAINED,
    "released step: *": TRAINED,
    "compact: * not cut along axis *": "lstm*|softmax/kernel|mask|embed/kernel|micro*",
    "compact: states exchanged": "lstm0/h",
    "compact: bias of one gate for all": "lstm0/bias",
    "compact: *": KERNELS,
    "alive: *": "alive/*",
    "lstm_cell_backward: *": "dx",
    "highway_cell_backward: *": "dx",
    "*": "hidden",
}


# Mutants of other ops whose cause is in the table of known mistakes.
KNOWN = {
    "bidirectional: lengths left out": "lengths ignored",
    "stacked: no mask on the input": "no mask on the input",
    "stacked: no mask between the layers": "no mask between the layers",
    "stacked: no mask on the output": "no mask on the output",
    "rhn: gates exchanged": "candidate and transform exchanged",
    "rhn: input mask left out": "input mask left out",
    "rhn: state mask left out": "state mask left out",
    "rhn: first state left out": "first state left out",
    "rhn: the gradient arriving at s left out": "gradient arriving at s left out",
    "penalty: self weights once for twice": "self weights counted once",
    "penalty: self weights twice for once": "self weights counted twice",
    "penalty: smoothing left out": "no smoothing",
    "penalty: smoothing always": "smoothing of 1e-8 in every norm",
    "gap: shares transposed": "share transposed",
    "train: no masks": "masks left out",
    "train: no clip": "no clip",
    "train: the first window's masks for all": "the first window's masks for all",
    "alive: by the whole group where readers are asked": "readers ignored",
    "prox step: strength without the rate": "strength without the rate",
    "prox step: half the strength": "half the strength",
    "prox: the weights in float32 arithmetic": "computed in float32",
    "lstm: dkernel from the outputs of other steps": "dkernel from h_t instead of h_{t-1}",
    "lstm_cell: i, g, f, o = (sigmoid(i), sigmoid(g), sigmoid(f), sigmoid(o))": (
        "sigmoid of the candidate for tanh"
    ),
    "lstm_cell: cell = cell + i * g": "forget gate left out",
    "lstm_cell: return (np.concatenate((i, g, f, o), axis=1), cell, o * sigmoid(cell))": (
        "sigmoid of the cell for tanh"
    ),
    "lstm_cell_backward: dcell = dcell + dhidden * o": "slope of tanh(c) left out of the gradient",
    "lstm_cell_backward: dcell = dcell + dhidden * o * 1": "slope of tanh(c) left out of the gradient",
}


def labelled(name, mutant):
    return mutant._replace(first=next(first for pattern, first in FIRST.items() if fnmatchcase(name, pattern)))


SUITE_2 = functools.reduce(dict.__or__, (*EDGE_TABLES, PROX, GRUS))
MUTANTS = {name: labelled(name, mutant) for name, mutant in SUITE_1.items()} | SUITE_2
MUTANTS |= {name: MUTANTS[name]._replace(known=known) for name, known in KNOWN.items()}
assert len(MUTANTS) == len(SUITE_1) + sum(map(len, EDGE_TABLES)) + len(PROX) + len(GRUS)  # every name is unique
