"""exp, tanh and sigmoid that LLVM vectorises inside a jitted loop, unlike numba's own.

All three use one polynomial. With n = round(x / ln 2) and r = x - n ln 2, |r| <= ln(2) / 2,

    exp(x) = 2^n (1 + p(r)),    expm1(x) = 2^n p(r) + (2^n - 1),    p(r) = r + r^2/2! + r^3/3! + ...

the Taylor series up to degree 7 (float32) or 13 (float64), where its remainder is below half a unit in the last
place. Then tanh(x) = e / (e + 2) with e = expm1(2x), and sigmoid(x) = 1 / (1 + exp(-x)). tanh(0) is exactly 0, and
NaN stays NaN. tests/test_kernels.py states and checks the largest errors.
"""

import math
from decimal import Decimal
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from issref.kernels.jitted.compiled import compiled

# contract: a * b + c is rounded once, which changes last digits only.
_scalar = compiled(fastmath={"contract"}, forceinline=True)

LN2 = Decimal("0.693147180559945309417232121458176568075500134360255254120680")
ONE, TWO = np.int8(1), np.int8(2)  # int8, because numba makes float32 + int64 a float64
FORMATS = {types.float32: (np.float32, 23, 16, 7, 87), types.float64: (np.float64, 52, 32, 13, 708)}


@intrinsic
def _power_of_two(typing_context, shifted):
    """Return 2^n from n + 1.5 * 2^(mantissa bits), whose low bits hold n: they are moved to the exponent."""
    width, mantissa, bias = (32, 23, 127) if shifted == types.float32 else (64, 52, 1023)

    def codegen(context, builder, signature, arguments):
        integer = ir.IntType(width)
        n = builder.bitcast(arguments[0], integer)
        exponent = builder.shl(n, ir.Constant(integer, mantissa))
        return builder.bitcast(
            builder.add(exponent, ir.Constant(integer, bias << mantissa)), context.get_value_type(shifted)
        )

    return shifted(shifted), codegen


@intrinsic
def _reordered(typing_context, x):
    """Turn a float into an integer of the same order, or such an integer back into the float.

    Positive floats are in the order of their bits; negative ones are too, once all bits but the sign are flipped.
    """
    other = {types.float32: types.int32, types.float64: types.int64}
    other |= {integer: number for number, integer in other.items()}

    def codegen(context, builder, signature, arguments):
        integer = ir.IntType(x.bitwidth)
        bits = builder.bitcast(arguments[0], integer)
        negative = builder.ashr(bits, integer(x.bitwidth - 1))
        flipped = builder.xor(bits, builder.and_(negative, integer(2 ** (x.bitwidth - 1) - 1)))
        return builder.bitcast(flipped, context.get_value_type(other[x]))

    return other[x](x), codegen


reordered: Any = _reordered  # Any: numba passes the first parameter of an intrinsic itself


def _exp_parts(x):
    """Return 2^n and p(r) for x, clipped so that 2^n is a normal number; numba compiles _exp_parts_of instead."""
    return x, x


@overload(_exp_parts, jit_options={"fastmath": {"contract"}, "error_model": "numpy"})
def _exp_parts_of(x):
    dtype, mantissa, bits, degree, most = FORMATS[x]
    high_ln2 = round(LN2 * 2**bits) / 2**bits  # few bits, so that n * high_ln2 is exact
    shift, per_ln2 = dtype(1.5 * 2**mantissa), dtype(1 / float(LN2))
    high, low, least, most = dtype(high_ln2), dtype(LN2 - Decimal(high_ln2)), dtype(-most), dtype(most)
    c2, c3, c4, c5, c6, c7 = (dtype(1 / math.factorial(k)) for k in range(2, 8))
    c8, c9, c10, c11, c12, c13 = (dtype(1 / math.factorial(k)) for k in range(8, 14))

    def parts7(x):
        x = most if x > most else x
        x = least if x < least else x
        shifted = x * per_ln2 + shift
        n = shifted - shift
        r = (x - n * high) - n * low
        tail = c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * c7))))
        return _power_of_two(shifted), r + r * r * tail  # type: ignore

    def parts13(x):
        x = most if x > most else x
        x = least if x < least else x
        shifted = x * per_ln2 + shift
        n = shifted - shift
        r = (x - n * high) - n * low
        end = c8 + r * (c9 + r * (c10 + r * (c11 + r * (c12 + r * c13))))
        tail = c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * (c7 + r * end)))))
        return _power_of_two(shifted), r + r * r * tail  # type: ignore

    return parts7 if degree == 7 else parts13


@_scalar
def exp(x):
    """Return exp(x) for |x| <= 87 (float32) or 708 (float64); beyond, the value at that bound."""
    scale, p = _exp_parts(x)
    return scale + scale * p


@_scalar
def tanh(x):
    """Return tanh(x) = e / (e + 2) with e = expm1(2x); exactly 0 at 0."""
    scale, p = _exp_parts(x + x)
    e = scale * p + (scale - ONE)
    return e / (e + TWO)


@_scalar
def sigmoid(x):
    """Return 1 / (1 + exp(-x))."""
    return ONE / (ONE + exp(-x))
