"""The innermost loop of a matrix product, with its sums in registers, for up to ROWS rows; written in LLVM code.

    out[row + r, 0:width] = sum_k rows[row + r, k] panel[k, 0:width],    r = 0, ..., count - 1

The loop over k keeps its count x 2 sums in vector registers. It reads each row of the panel, one line of the
cache, once for all of them. numba does not compile such a loop from Python. A BLAS does the same, but copies the
weights into panels at every call. A recurrent network multiplies about twenty rows by the same weights at each
step, so the copy would cost as much as the product; `products` makes it once for all steps.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LINE = 64  # bytes in a line of the cache, which is one row of a panel
ROWS = 5  # 5 x 2 sums, 2 vectors of the panel and 1 of a row fit into 16 vector registers
INDEX, LANE = ir.IntType(64), ir.IntType(32)


def _multiply_rows(count):
    """Return the intrinsic for `count` rows."""

    @intrinsic
    def multiply_rows(typing_context, rows, panel, out, row):
        arrays = (rows, panel, out)
        if not all(isinstance(array, types.Array) and array.dtype == out.dtype for array in arrays):
            return None

        def codegen(context, builder, signature, arguments):
            kinds = signature.args[:3]
            rows, panel, out = (
                context.make_array(kind)(context, builder, argument)
                for kind, argument in zip(kinds, arguments[:3], strict=True)
            )
            number = context.get_data_type(kinds[0].dtype)
            width = LINE // 8 if kinds[0].dtype == types.float64 else LINE // 4
            vector = ir.VectorType(number, width // 2)
            halves = [INDEX(0), INDEX(width // 2)]

            def first(array, r):
                """Return a pointer to row `row + r` of an array."""
                step = builder.mul(builder.add(arguments[3], INDEX(r)), builder.extract_value(array.strides, 0))
                address = builder.add(builder.ptrtoint(array.data, INDEX), step)
                return builder.inttoptr(address, number.as_pointer())

            def at(pointer, offset):
                return builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer())

            def everywhere(value):
                lone = builder.insert_element(ir.Constant(vector, ir.Undefined), value, LANE(0))
                lanes = ir.Constant(ir.VectorType(LANE, width // 2), None)
                return builder.shuffle_vector(lone, ir.Constant(vector, ir.Undefined), lanes)

            sources, targets = ([first(array, r) for r in range(count)] for array in (rows, out))
            sums = [
                [cgutils.alloca_once_value(builder, ir.Constant(vector, None)) for _ in halves] for _ in sources
            ]
            for total in (total for pair in sums for total in pair):
                builder.store(ir.Constant(vector, None), total)
            with cgutils.for_range(builder, builder.extract_value(rows.shape, 1)) as each:
                line = builder.mul(each.index, INDEX(width))
                weights = [builder.load(at(panel.data, builder.add(line, half)), align=4) for half in halves]
                for source, pair in zip(sources, sums, strict=True):
                    value = everywhere(builder.load(builder.gep(source, [each.index])))
                    for weight, total in zip(weights, pair, strict=True):
                        product = builder.fmul(value, weight, flags=("contract",))
                        builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)
            for target, pair in zip(targets, sums, strict=True):
                for half, total in zip(halves, pair, strict=True):
                    builder.store(builder.load(total), at(target, half), align=4)
            return context.get_dummy_value()

        return types.void(rows, panel, out, row), codegen

    return multiply_rows


# Any: numba passes the first parameter of an intrinsic itself, so a type checker would miscount them.
one_row: Any = _multiply_rows(1)
two_rows: Any = _multiply_rows(2)
three_rows: Any = _multiply_rows(3)
four_rows: Any = _multiply_rows(4)
five_rows: Any = _multiply_rows(ROWS)
