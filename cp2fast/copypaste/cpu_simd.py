"""Four float32 side by side in one register: what the compiler does not find by itself.

A value is a numba scalar of type ``Lanes``: kept in local variables, never in arrays.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import register_default
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import intrinsic

_VECTOR = ir.VectorType(ir.FloatType(), 4)
_INDEX = ir.IntType(32)
_ALL_FIRST = ir.Constant(ir.VectorType(_INDEX, 4), None)


class _Lanes(types.Type):  # type: ignore[misc]  # numba is untyped
    def __init__(self) -> None:
        super().__init__("Lanes")


_LANES = _Lanes()


@register_default(_Lanes)
class _LanesModel(PrimitiveModel):  # type: ignore[misc]  # numba is untyped
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _VECTOR)


@intrinsic  # type: ignore[misc]  # numba is untyped
def no_lanes(typing_context: Any) -> Any:
    """``no_lanes()``: four zeros."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_VECTOR, None)

    return _LANES(), generate


@intrinsic  # type: ignore[misc]  # numba is untyped
def add_weighted(typing_context: Any, total: Any, weight: Any, values: Any, first: Any) -> Any:
    """``add_weighted(total, weight, values, first)``: total + weight * values[first : first + 4].

    ``values`` is a contiguous float32 array, and ``first`` is not checked.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, weight, values, first = arguments
        data = context.make_array(signature.args[2])(context, builder, values).data
        at = builder.bitcast(builder.gep(data, [first]), _VECTOR.as_pointer())
        weights = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), weight, _INDEX(0))
        weights = builder.shuffle_vector(
            weights, weights, ir.Constant(ir.VectorType(_INDEX, 4), None)
        )
        lanes = builder.load(at, align=4)
        return builder.fadd(
            total, builder.fmul(weights, lanes, flags=["contract"]), flags=["contract"]
        )

    return _LANES(_LANES, types.float32, values, types.uint64), generate


@intrinsic  # type: ignore[misc]  # numba is untyped
def first_three(typing_context: Any, lanes: Any) -> Any:
    """``first_three(lanes)``: a tuple of the first three."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = [builder.extract_element(arguments[0], _INDEX(i)) for i in range(3)]
        return context.make_tuple(builder, signature.return_type, values)

    return types.UniTuple(types.float32, 3)(_LANES), generate
