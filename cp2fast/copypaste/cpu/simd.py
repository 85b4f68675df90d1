"""Several float32 side by side in registers, where the compiler does not find that by itself.

A value is a numba scalar of type ``Lanes``: kept in local variables, never in arrays. Four lanes
are a pixel and one float more; ``WIDE`` lanes are a stretch of a row. Arrays are contiguous
float32, places in them are uint64, and neither is checked: an array must be long enough for all
lanes of the last value.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import register_default
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import intrinsic

WIDE = 16

_INDEX = ir.IntType(32)
_FUSED = {"flags": ["contract"]}


class _Lanes(types.Type):  # type: ignore[misc]  # numba is untyped
    def __init__(self, count: int) -> None:
        self.vector = ir.VectorType(ir.FloatType(), count)
        super().__init__(f"Lanes({count})")


_PIXEL, _STRETCH = _Lanes(4), _Lanes(WIDE)


@register_default(_Lanes)
class _LanesModel(PrimitiveModel):  # type: ignore[misc]  # numba is untyped
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, kind.vector)


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def black(typing_context: Any) -> Any:
    """``black()``: four zeros."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_PIXEL.vector, None)

    return _PIXEL(), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def add_pixel(typing_context: Any, total: Any, weight: Any, values: Any, first: Any) -> Any:
    """``add_pixel(total, weight, values, first)``: plus weight * the four values there."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, weight, values, first = arguments
        pixel = builder.load(
            _place(context, builder, _PIXEL, signature.args[2], values, first), align=4
        )
        return builder.fadd(total, _scale(builder, weight, pixel), **_FUSED)

    return _PIXEL(_PIXEL, types.float32, values, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def red_green_blue(typing_context: Any, pixel: Any) -> Any:
    """``red_green_blue(pixel)``: a tuple of the first three lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values = [builder.extract_element(arguments[0], _INDEX(i)) for i in range(3)]
        return context.make_tuple(builder, signature.return_type, values)

    return types.UniTuple(types.float32, 3)(_PIXEL), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def stretch(typing_context: Any, weight: Any, values: Any, first: Any) -> Any:
    """``stretch(weight, values, first)``: weight * the ``WIDE`` values at ``first``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        weight, values, first = arguments
        place = _place(context, builder, _STRETCH, signature.args[1], values, first)
        return _scale(builder, weight, builder.load(place, align=4))

    return _STRETCH(types.float32, values, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def add_pair(
    typing_context: Any, total: Any, weight: Any, values: Any, before: Any, after: Any
) -> Any:
    """``add_pair(total, weight, values, before, after)``: plus weight * both stretches."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, weight, values, *places = arguments
        one, other = (
            builder.load(
                _place(context, builder, _STRETCH, signature.args[2], values, first), align=4
            )
            for first in places
        )
        pair = _scale(builder, weight, builder.fadd(one, other, **_FUSED))
        return builder.fadd(total, pair, **_FUSED)

    return _STRETCH(_STRETCH, types.float32, values, types.uint64, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def put(typing_context: Any, values: Any, first: Any, lanes: Any) -> Any:
    """``put(values, first, stretch)``: write all lanes at ``first``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, first, lanes = arguments
        builder.store(
            lanes, _place(context, builder, _STRETCH, signature.args[0], values, first), align=4
        )
        return context.get_dummy_value()

    return types.void(values, types.uint64, _STRETCH), generate


def _place(context: Any, builder: Any, lanes: _Lanes, kind: Any, values: Any, first: Any) -> Any:
    data = context.make_array(kind)(context, builder, values).data
    return builder.bitcast(builder.gep(data, [first]), lanes.vector.as_pointer())


def _scale(builder: Any, weight: Any, lanes: Any) -> Any:
    one = builder.insert_element(ir.Constant(lanes.type, ir.Undefined), weight, _INDEX(0))
    all_the_first = ir.Constant(ir.VectorType(_INDEX, lanes.type.count), None)
    return builder.fmul(builder.shuffle_vector(one, one, all_the_first), lanes, **_FUSED)
