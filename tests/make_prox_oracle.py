"""Solve small proximal problems with a conic solver and store them: python tests/make_prox_oracle.py

cvxpy states the problem from the definition, group by group as explicit sets of weights; Clarabel solves it. No
code of issref but the layout is used, so agreement is evidence. Good to about 1e-7 of |v|.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from strategies import drawn, flat, membership  # noqa: E402

from issref.iss.layout import Layout  # noqa: E402
from issref.models import ptb_lstm  # noqa: E402

LSTM2 = ptb_lstm.layout(ptb_lstm.Config(3, 2, (3, 3)))
LSTM3 = ptb_lstm.layout(ptb_lstm.Config(3, 1, (2, 2, 2)))
MIXED = Layout({"a": (("x", "y", "x"), ("y", "~x", "x")), "b": (("y", "x"),), "c": (("x",), ("z",))},
               {"x": 3, "y": 2, "z": 4})  # fmt: skip
CASES = (  # name, layout, grouped spaces, seed, one number times the norm of v, strengths equal or each its own
    ("usual", LSTM2, ["lstm0", "lstm1"], 0, 0.05, "equal"),
    ("half die", LSTM2, ["lstm0", "lstm1"], 1, 0.22, "own"),
    ("three layers", LSTM3, ["lstm0", "lstm1", "lstm2"], 2, 0.12, "own"),
    ("generic", MIXED, ["y", "x"], 3, 0.15, "own"),
    ("nearly all die", LSTM2, ["lstm0", "lstm1"], 4, 0.999, "critical"),
    ("just all die", LSTM2, ["lstm0", "lstm1"], 5, 1.001, "critical"),
)


def make(case) -> dict:
    name, layout, spaces, seed, factor, kind = case
    rng = np.random.default_rng(seed)
    v, member = np.round(flat(drawn(layout, rng), layout), 4), membership(layout, spaces)
    profile = rng.uniform(0.5, 1.5, len(member)) if kind == "own" else np.ones(len(member))
    scale = deadly(v, member) if kind == "critical" else np.linalg.norm(v)
    strengths = np.round(factor * scale * profile, 6)
    fields = {"name": name, "seed": seed, "layout": json.loads(layout.to_json()), "spaces": spaces}
    return {**fields, "strengths": strengths.tolist(), "v": v.tolist(), "w": solve(v, member, strengths).tolist()}


def solve(v, member, strengths) -> np.ndarray:
    """argmin_w 1/2 |w - v|^2 + sum_g strengths[g] |w_g|."""
    import cvxpy

    w = cvxpy.Variable(len(v))
    norms = [strength * cvxpy.norm(w[np.flatnonzero(g)]) for g, strength in zip(member, strengths, strict=True)]
    run(cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(w - v) / 2 + sum(norms))))
    return np.round(w.value, 9)


def deadly(v, member) -> float:
    """The smallest strength at which everything dies: the least common radius of balls whose sum holds v."""
    import cvxpy

    radius, xi = cvxpy.Variable(), [cvxpy.Variable(int(g.sum())) for g in member]
    places = [np.eye(len(v))[:, np.flatnonzero(g)] for g in member]
    held = member.any(axis=0)
    total = sum(place @ one for place, one in zip(places, xi, strict=True))
    run(cvxpy.Problem(cvxpy.Minimize(radius), [total == v * held, *(cvxpy.norm(one) <= radius for one in xi)]))
    return float(radius.value)


def run(problem) -> None:
    """More digits are asked for than Clarabel promises; it says so where it stops short of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Solution may be inaccurate")
        problem.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)


if __name__ == "__main__":
    made = ",\n".join(json.dumps(make(case)) for case in CASES)
    Path(__file__).with_name("data").mkdir(exist_ok=True)
    Path(__file__).with_name("data").joinpath("prox_oracle.json").write_text(f"[\n{made}\n]\n")
