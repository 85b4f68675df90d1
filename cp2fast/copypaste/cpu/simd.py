"""Vectors of sixteen float32 in registers, for loops that the compiler does not vectorise.

A value is a numba scalar of type ``Lanes``: kept in local variables, never in arrays. Lanes are
consecutive values of a row, or four pixels of four channels each, of which the last is unused.
Arrays are contiguous and indices are uint64; neither is checked, so an array must be long enough
for all lanes of the last value.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import register_default
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import intrinsic

LINE = 64
"""Bytes of a cache line."""
WIDE = 16

_INDEX = ir.IntType(32)
_FUSED = {"flags": ["contract"]}


class _Lanes(types.Type):  # type: ignore[misc]  # numba is untyped
    def __init__(self) -> None:
        super().__init__("Lanes")


_LANES = _Lanes()
_FLOATS = ir.VectorType(ir.FloatType(), WIDE)
_PIXEL = ir.VectorType(ir.FloatType(), 4)
_BYTES = ir.VectorType(ir.IntType(8), WIDE)


@register_default(_Lanes)
class _LanesModel(PrimitiveModel):  # type: ignore[misc]  # numba is untyped
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def zeros(typing_context: Any) -> Any:
    """``zeros()``: zero in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_FLOATS, None)

    return _LANES(), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def add_bytes(typing_context: Any, total: Any, weight: Any, values: Any, first: Any) -> Any:
    """``add_bytes(total, weight, values, first)``: add weight * uint8 values from ``first`` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, weight, values, first = arguments
        place = _place(context, builder, _BYTES, signature.args[2], values, first)
        whole = builder.zext(builder.load(place, align=1), ir.VectorType(ir.IntType(32), WIDE))
        # Signed conversion, as there is no unsigned one before AVX-512.
        return _add(builder, total, _all(builder, weight), builder.sitofp(whole, _FLOATS))

    return _LANES(_LANES, types.float32, values, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def add_pixels(
    typing_context: Any,
    total: Any,
    weights: Any,
    at: Any,
    values: Any,
    one: Any,
    two: Any,
    three: Any,
    four: Any,
) -> Any:
    """``add_pixels(total, weights, at, values, *places)``: add weights * four values at each."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, weights, at, values, *places = arguments
        weight = builder.load(
            _place(context, builder, _FLOATS, signature.args[1], weights, at), align=4
        )
        pixels = [
            builder.load(
                _place(context, builder, _PIXEL, signature.args[3], values, place), align=4
            )
            for place in places
        ]
        pairs = [_join(builder, pixels[0], pixels[1]), _join(builder, pixels[2], pixels[3])]
        return _add(builder, total, weight, _join(builder, *pairs))

    places = (types.uint64,) * 4
    return _LANES(_LANES, weights, types.uint64, values, *places), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def put_pixels(
    typing_context: Any, values: Any, red: Any, green: Any, blue: Any, lanes: Any
) -> Any:
    """``put_pixels(values, red, green, blue, lanes)``: write four pixels by channel."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, *channels, lanes = arguments
        for number, first in enumerate(channels):
            places = [number + 4 * pixel for pixel in range(4)]
            chosen = ir.Constant(ir.VectorType(_INDEX, 4), places)
            place = _place(context, builder, _PIXEL, signature.args[0], values, first)
            builder.store(builder.shuffle_vector(lanes, lanes, chosen), place, align=4)
        return context.get_dummy_value()

    return types.void(values, *(types.uint64,) * 3, _LANES), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def stretch(typing_context: Any, weight: Any, values: Any, first: Any) -> Any:
    """``stretch(weight, values, first)``: weight * the values from ``first`` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        weight, values, first = arguments
        place = _place(context, builder, _FLOATS, signature.args[1], values, first)
        lanes = builder.load(place, align=4)
        return builder.fmul(_all(builder, weight), lanes, **_FUSED)

    return _LANES(types.float32, values, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def add_pair(
    typing_context: Any, total: Any, weight: Any, values: Any, before: Any, after: Any
) -> Any:
    """``add_pair(total, weight, values, before, after)``: add weight * both stretches."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, weight, values, *places = arguments
        one, other = (
            builder.load(
                _place(context, builder, _FLOATS, signature.args[2], values, first), align=4
            )
            for first in places
        )
        pair = builder.fadd(one, other, **_FUSED)
        return _add(builder, total, _all(builder, weight), pair)

    return _LANES(_LANES, types.float32, values, types.uint64, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def put(typing_context: Any, values: Any, first: Any, lanes: Any) -> Any:
    """``put(values, first, lanes)``: write all lanes from ``first`` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, first, lanes = arguments
        place = _place(context, builder, _FLOATS, signature.args[0], values, first)
        builder.store(lanes, place, align=4)
        return context.get_dummy_value()

    return types.void(values, types.uint64, _LANES), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def stream(typing_context: Any, target: Any, at: Any, source: Any, first: Any) -> Any:
    """``stream(target, at, source, first)``: copy 64 bytes, bypassing the cache.

    ``target`` must be aligned to 64 bytes at this index, and should not be read again soon.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, at, source, first = arguments
        kinds = signature.args
        lanes = builder.load(_place(context, builder, _FLOATS, kinds[2], source, first), align=4)
        place = _place(context, builder, _FLOATS, kinds[0], target, at)
        store = builder.store(lanes, place, align=64)
        one = ir.Constant(_INDEX, 1)
        store.set_metadata("nontemporal", builder.module.add_metadata([one]))
        return context.get_dummy_value()

    return types.void(target, types.uint64, source, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def settle(typing_context: Any) -> Any:
    """``settle()``: make streamed data visible to other threads."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def prefetch(typing_context: Any, values: Any, first: Any) -> Any:
    """``prefetch(values, first)``: load the cache line of this index."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, first = arguments
        data = context.make_array(signature.args[0])(context, builder, values).data
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _INDEX, _INDEX, _INDEX])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        place = builder.bitcast(builder.gep(data, [first]), byte)
        builder.call(function, [place, _INDEX(0), _INDEX(3), _INDEX(1)])  # read, near, data
        return context.get_dummy_value()

    return types.void(values, types.uint64), generate


def _place(context: Any, builder: Any, vector: Any, kind: Any, values: Any, first: Any) -> Any:
    data = context.make_array(kind)(context, builder, values).data
    return builder.bitcast(builder.gep(data, [first]), vector.as_pointer())


def _add(builder: Any, total: Any, weight: Any, lanes: Any) -> Any:
    return builder.fadd(total, builder.fmul(weight, lanes, **_FUSED), **_FUSED)


def _all(builder: Any, value: Any) -> Any:
    """A number in all lanes."""
    one = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, _INDEX(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_INDEX, WIDE), None))


def _join(builder: Any, one: Any, other: Any) -> Any:
    """Concatenate two vectors."""
    places = list(range(2 * one.type.count))
    return builder.shuffle_vector(
        one, other, ir.Constant(ir.VectorType(_INDEX, len(places)), places)
    )
