"""Products with weights that are packed once: every tile, every rest of a panel, and what is kept meanwhile."""

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from issref import kernels
from issref.kernels import inference, reference
from issref.kernels.inference import fixed_weights
from issref.kernels.jitted import microkernel, products
from issref.models import ptb_lstm

SEEDS = st.integers(0, 2**32 - 1).map(np.random.default_rng)
ROWS = st.integers(0, 3 * microkernel.ROWS + 1)  # each size of a tile, and several tiles


@given(SEEDS, st.sampled_from((np.float32, np.float64)), ROWS, st.integers(0, 40), st.integers(1, 150))
def test_packed_product_is_the_product_within_the_rounding_of_its_sums(rng, dtype, rows, depth, columns):
    x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in ((rows, depth), (depth, columns), columns))
    with fixed_weights():
        found = kernels.affine(x, w, b)
    exact = reference.affine(*(array.astype(np.longdouble) for array in (x, w, b)))
    allowed = (depth + 1) * np.finfo(dtype).eps * (np.abs(x) @ np.abs(w) + np.abs(b))  # Higham 2002, section 3.1
    assert np.all(np.abs(found - exact) <= allowed)


@given(SEEDS, ROWS, st.integers(0, 9))
def test_rows_may_be_any_view(rng, rows, depth):
    wide, w, b = rng.standard_normal((rows, 2 * depth)), rng.standard_normal((7, depth)), rng.standard_normal(7)
    with fixed_weights():
        found = kernels.affine(wide[:, ::2], w.T, b)
        np.testing.assert_array_equal(found, kernels.affine(wide[:, ::2].copy(), w.T.copy(), b))


def test_weights_are_packed_once_within_the_block_and_at_every_call_outside():
    packed, weights = [], np.ones((3, 4))

    def pack(array):
        packed.append(array.copy())
        return array.copy()

    with fixed_weights():
        inference.once(pack, weights[1:])
        kept = inference.once(pack, weights[1:])  # another view of the same entries
        inference.once(pack, weights[:2])
        with fixed_weights():
            inference.once(pack, weights[1:])
        assert inference.once(pack, weights[1:]) is kept
    assert len(packed) == 3
    weights[:] = 2
    assert inference.once(pack, weights[1:])[0, 0] == 2
    assert len(packed) == 4


def test_a_kept_array_keeps_its_memory():
    with fixed_weights():
        for value in range(100):  # each array could get the memory of the one before
            array = np.full((40, 50), float(value))
            assert inference.once(np.copy, array)[0, 0] == value


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_loss_and_gradient_with_fixed_weights_are_those_without(dtype):
    config = ptb_lstm.Config(vocabulary=70, embed_size=9, hidden_sizes=(13, 6), init_scale=0.5)
    layout, rng = ptb_lstm.layout(config), np.random.default_rng(1)
    params, state = (
        ptb_lstm.init_params(config, layout, rng, dtype),
        ptb_lstm.state_layout(layout, 3).allocate(dtype),
    )
    tokens, targets = rng.integers(0, 70, (2, 5, 3))
    found = []
    for block in (fixed_weights, nullcontext):
        with block():
            (loss, _), backward = ptb_lstm.loss(params, state, tokens=tokens, targets=targets)
            found.append({"loss": np.array(loss), **backward(1.0)[0]})
    for array, values in found[0].items():
        error = 100 * np.finfo(dtype).eps * max(1, np.abs(values).max())
        np.testing.assert_allclose(values, found[1][array], rtol=0, atol=error)


def test_panels_are_the_columns_padded_with_zeros():
    weights = np.arange(3 * 41, dtype=np.float32).reshape(3, 41)
    for matrix in (weights, weights.T):
        panels = products.packed(matrix)
        flat = panels.transpose(1, 0, 2).reshape(len(matrix), -1)
        np.testing.assert_array_equal(flat[:, : matrix.shape[1]], matrix)
        assert not flat[:, matrix.shape[1] :].any()
