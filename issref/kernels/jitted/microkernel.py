"""The innermost loop of a matrix product, with its sums in registers, for up to ROWS rows; written in LLVM code.

    out[row + r, 0:w] = start[row + r, 0:w] + sum_k rows[row + r, k] panel[k, 0:w],    r = 0, ..., count - 1

The loop over k keeps its count x 2 sums in vector registers. It reads each row of the panel, two vectors, once for
all of them. numba does not compile such a loop from Python. A BLAS does the same, but copies the weights into
panels at every call. A recurrent network multiplies about twenty rows by the same weights at each step, so the
copy would cost as much as the product; `products` makes it once for all steps.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic


def _has_avx512() -> bool:
    """Return whether numba compiles for AVX-512, by the processor's features or the name in NUMBA_CPU_NAME."""
    target: Any = cpu_target.target_context
    _, processor, features = target.codegen().magic_tuple()
    return "+avx512f" in features or "avx512" in processor


# AVX2 has 16 registers of 32 bytes: 6 x 2 sums, 2 vectors of the panel and 1 of a row. AVX-512 has 32 of 64.
VECTOR, ROWS = (64, 12) if _has_avx512() else (32, 6)  # bytes of a vector; rows of a tile
PANEL = 2 * VECTOR  # bytes in a row of a panel
AHEAD = 2**15 // PANEL  # rows of the panel that are fetched into the second cache before they are needed
INDEX, LANE = ir.IntType(64), ir.IntType(32)


@intrinsic
def _multiply_rows(typing_context, start, rows, panel, out, row, count):
    """Multiply `count` of the rows, from `row` on. The panel, and each row of the other arrays, are contiguous.

    `out` may be the array `start`. Nothing happens if count is not in 1, ..., ROWS.
    """
    arrays = (start, rows, panel, out)
    if not all(isinstance(array, types.Array) and array.dtype == out.dtype for array in arrays):
        return None

    def codegen(context, builder, signature, arguments):
        kinds = signature.args[:4]
        start, rows, panel, out = (
            context.make_array(kind)(context, builder, argument)
            for kind, argument in zip(kinds, arguments[:4], strict=True)
        )
        number = context.get_data_type(kinds[0].dtype)
        lanes = VECTOR // (8 if kinds[0].dtype == types.float64 else 4)
        vector = ir.VectorType(number, lanes)

        def first(array, r):
            """Return a pointer to row `row + r` of an array."""
            step = builder.mul(builder.add(arguments[4], INDEX(r)), builder.extract_value(array.strides, 0))
            address = builder.add(builder.ptrtoint(array.data, INDEX), step)
            return builder.inttoptr(address, number.as_pointer())

        def at(pointer, offset):
            return builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer())

        def everywhere(value):
            lone = builder.insert_element(ir.Constant(vector, ir.Undefined), value, LANE(0))
            return builder.shuffle_vector(
                lone, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(LANE, lanes), None)
            )

        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, LANE, LANE, LANE])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")

        def prefetch(pointer):
            read, second_cache, data = LANE(0), LANE(2), LANE(1)
            builder.call(fetch, [builder.bitcast(pointer, byte), read, second_cache, data])

        def tile(count):
            halves = [INDEX(0), INDEX(lanes)]
            begins, sources, targets = ([first(array, r) for r in range(count)] for array in (start, rows, out))
            sums = [[cgutils.alloca_once(builder, vector) for _ in halves] for _ in sources]
            for begin, pair in zip(begins, sums, strict=True):
                for half, total in zip(halves, pair, strict=True):
                    builder.store(builder.load(at(begin, half), align=4), total)
            with cgutils.for_range(builder, builder.extract_value(rows.shape, 1)) as each:
                line = builder.mul(each.index, INDEX(2 * lanes))
                for half in halves:
                    prefetch(
                        builder.gep(panel.data, [builder.add(line, builder.add(half, INDEX(AHEAD * 2 * lanes)))])
                    )
                weights = [builder.load(at(panel.data, builder.add(line, half)), align=4) for half in halves]
                for source, pair in zip(sources, sums, strict=True):
                    value = everywhere(builder.load(builder.gep(source, [each.index])))
                    for weight, total in zip(weights, pair, strict=True):
                        product = builder.fmul(value, weight, flags=("contract",))
                        builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)
            for target, pair in zip(targets, sums, strict=True):
                for half, total in zip(halves, pair, strict=True):
                    builder.store(builder.load(total), at(target, half), align=4)

        end = builder.append_basic_block("end")
        switch = builder.switch(arguments[5], end)
        for count in range(1, ROWS + 1):
            with builder.goto_block(block := builder.append_basic_block(f"rows{count}")):
                tile(count)
                builder.branch(end)
            switch.add_case(INDEX(count), block)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(start, rows, panel, out, types.int64, types.int64), codegen


# Any: numba passes the first parameter of an intrinsic itself, so a type checker would miscount them.
multiply_rows: Any = _multiply_rows
