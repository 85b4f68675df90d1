"""Vectors of sixteen float32 in registers.

A value is a numba scalar of type ``Lanes``: kept in local variables, never in arrays. Lanes are
consecutive values of a row, or four pixels of four channels each, of which the last is unused.
``+``, ``-``, ``*``, ``min``, ``max`` and ``abs`` take them as they take a float32, which may be the
other operand, so the arithmetic of ``pixel.py`` is compiled for both.

Arrays are contiguous and indices are uint64; neither is checked, so an array must be long enough
for all lanes of the last value.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import register_default
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import intrinsic, lower_builtin, overload, type_callable

from cp2fast.copypaste.cpu import pixel

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
_BYTES, _SHORTS, _WORDS = (ir.VectorType(ir.IntType(bits), WIDE) for bits in (8, 16, 32))


@register_default(_Lanes)
class _LanesModel(PrimitiveModel):  # type: ignore[misc]  # numba is untyped
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _FLOATS)


# ---- Arithmetic ---------------------------------------------------------------------------------


def _binary(operation: Callable[..., Any], generate: Callable[[Any, Any, Any], Any]) -> None:
    """Extend an operation to lanes on either side; ``generate`` takes the builder and two lanes."""

    @type_callable(operation)  # type: ignore[untyped-decorator]  # numba is untyped
    def typed(_: Any) -> Any:
        def result(one: Any, other: Any) -> Any:
            lanes = _LANES in (one, other) and {one, other} <= {_LANES, types.float32}
            return _LANES if lanes else None

        return result

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pairs = zip(arguments, signature.args, strict=True)
        one, other = (value if kind is _LANES else _all(builder, value) for value, kind in pairs)
        return generate(builder, one, other)

    for kinds in ((_LANES, _LANES), (_LANES, types.float32), (types.float32, _LANES)):
        lower_builtin(operation, *kinds)(lower)


def _smaller(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", one, other), one, other)


def _larger(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", one, other), one, other)


_binary(operator.add, lambda builder, one, other: builder.fadd(one, other, **_FUSED))
_binary(operator.sub, lambda builder, one, other: builder.fsub(one, other, **_FUSED))
_binary(operator.mul, lambda builder, one, other: builder.fmul(one, other, **_FUSED))
_binary(min, _smaller)
_binary(max, _larger)


@type_callable(abs)  # type: ignore[untyped-decorator]  # numba is untyped
def _typed_magnitude(_: Any) -> Any:
    def result(value: Any) -> Any:
        return _LANES if value is _LANES else None

    return result


@lower_builtin(abs, _LANES)  # type: ignore[untyped-decorator]  # numba is untyped
def _magnitude(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    kind = ir.FunctionType(_FLOATS, [_FLOATS])
    function = builder.module.declare_intrinsic(f"llvm.fabs.v{WIDE}f32", (), kind)
    return builder.call(function, arguments)


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def _where_equal(typing_context: Any, one: Any, other: Any, then: Any, rest: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one, other, then, rest = arguments
        return builder.select(builder.fcmp_ordered("==", one, other), then, rest)

    return _LANES(_LANES, _LANES, _LANES, _LANES), generate


@overload(pixel.where_equal, strict=False)  # type: ignore[untyped-decorator]  # numba is untyped
def _either(one: Any, other: Any, then: Any, rest: Any) -> Any:
    if one is _LANES:
        return lambda one, other, then, rest: _where_equal(one, other, then, rest)
    return pixel.where_equal


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def zeros(typing_context: Any) -> Any:
    """``zeros()``: zero in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_FLOATS, None)

    return _LANES(), generate


# ---- Memory -------------------------------------------------------------------------------------


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def load(typing_context: Any, values: Any, first: Any) -> Any:
    """``load(values, first)``: the float32 values from ``first`` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, _FLOATS, signature.args[0], *arguments)
        return builder.load(place, align=4)

    return _LANES(values, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def load_bytes(typing_context: Any, values: Any, first: Any) -> Any:
    """``load_bytes(values, first)``: the uint8 values from ``first`` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, _BYTES, signature.args[0], *arguments)
        whole = builder.zext(builder.load(place, align=1), _WORDS)
        # Signed conversion, as there is no unsigned one before AVX-512.
        return builder.sitofp(whole, _FLOATS)

    return _LANES(values, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def load_pixels(typing_context: Any, values: Any, one: Any, two: Any, three: Any, four: Any) -> Any:
    """``load_pixels(values, *places)``: four float32 values at each of four places."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, *places = arguments
        pixels = [
            builder.load(
                _place(context, builder, _PIXEL, signature.args[0], values, place), align=4
            )
            for place in places
        ]
        return _join(
            builder, _join(builder, pixels[0], pixels[1]), _join(builder, pixels[2], pixels[3])
        )

    return _LANES(values, *(types.uint64,) * 4), generate


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
def put_pixels(
    typing_context: Any, values: Any, red: Any, green: Any, blue: Any, lanes: Any
) -> Any:
    """``put_pixels(values, red, green, blue, lanes)``: write four pixels by channel."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, *channels, lanes = arguments
        for number, first in enumerate(channels):
            chosen = _places([number + 4 * pixel for pixel in range(4)])
            place = _place(context, builder, _PIXEL, signature.args[0], values, first)
            builder.store(builder.shuffle_vector(lanes, lanes, chosen), place, align=4)
        return context.get_dummy_value()

    return types.void(values, *(types.uint64,) * 3, _LANES), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def put_interleaved(
    typing_context: Any, values: Any, first: Any, red: Any, green: Any, blue: Any
) -> Any:
    """``put_interleaved(values, first, red, green, blue)``: write sixteen pixels of three."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, first, red, green, blue = arguments
        pairs = _join(builder, red, green), _join(builder, blue, blue)
        for part in range(3):
            numbers = range(part * WIDE, (part + 1) * WIDE)
            chosen = _places([number % 3 * WIDE + number // 3 for number in numbers])
            at = builder.add(first, ir.Constant(first.type, part * WIDE))
            place = _place(context, builder, _FLOATS, signature.args[0], values, at)
            builder.store(builder.shuffle_vector(*pairs, chosen), place, align=4)
        return context.get_dummy_value()

    return types.void(values, types.uint64, _LANES, _LANES, _LANES), generate


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def put_bfloat16(typing_context: Any, values: Any, first: Any, lanes: Any) -> Any:
    """``put_bfloat16(values, first, lanes)``: write all lanes as bits of bfloat16."""

    def rounded(builder: Any, lanes: Any) -> Any:
        bits = builder.bitcast(lanes, _WORDS)
        return builder.lshr(_add_half(builder, bits, 16), _words(16))

    return types.void(values, types.uint64, _LANES), _put_rounded(rounded)


@intrinsic  # type: ignore[untyped-decorator]  # numba is untyped
def put_float16(typing_context: Any, values: Any, first: Any, lanes: Any) -> Any:
    """``put_float16(values, first, lanes)``: write all lanes, below 65,504, as bits of float16."""

    def rounded(builder: Any, lanes: Any) -> Any:
        # In integers, as not every CPU has an instruction for it.
        bits = builder.bitcast(lanes, _WORDS)
        sign = builder.and_(builder.lshr(bits, _words(16)), _words(0x8000))
        magnitude = builder.and_(bits, _words(0x7FFFFFFF))
        rebased = builder.sub(_add_half(builder, magnitude, 13), _words(112 << 23))
        normal = builder.lshr(rebased, _words(13))
        # Adding and subtracting 2^23 rounds a float32 to an integer, ties to even.
        steps = builder.fmul(builder.bitcast(magnitude, _FLOATS), _floats(2**24))
        whole = builder.fsub(builder.fadd(steps, _floats(2**23)), _floats(2**23))
        large = builder.icmp_unsigned(">=", magnitude, _words(113 << 23))
        # A number that is too large for an integer here is not chosen.
        small = builder.select(large, _floats(0), whole)
        subnormal = builder.fptosi(small, _WORDS)
        return builder.or_(sign, builder.select(large, normal, subnormal))

    return types.void(values, types.uint64, _LANES), _put_rounded(rounded)


def _put_rounded(rounded: Callable[[Any, Any], Any]) -> Any:
    """Generate the writing of 16 bits of what ``rounded`` makes of the lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, first, lanes = arguments
        place = _place(context, builder, _SHORTS, signature.args[0], values, first)
        builder.store(builder.trunc(rounded(builder, lanes), _SHORTS), place, align=2)
        return context.get_dummy_value()

    return generate


def _add_half(builder: Any, bits: Any, dropped: int) -> Any:
    """Add what makes dropping the last bits round to the nearest, ties to even."""
    odd = builder.and_(builder.lshr(bits, _words(dropped)), _words(1))
    return builder.add(builder.add(bits, _words((1 << dropped - 1) - 1)), odd)


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


def _all(builder: Any, value: Any) -> Any:
    """A number in all lanes."""
    one = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, _INDEX(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_INDEX, WIDE), None))


def _words(number: int) -> Any:
    return ir.Constant(_WORDS, [number] * WIDE)


def _floats(number: float) -> Any:
    return ir.Constant(_FLOATS, [number] * WIDE)


def _join(builder: Any, one: Any, other: Any) -> Any:
    """Concatenate two vectors."""
    return builder.shuffle_vector(one, other, _places(list(range(2 * one.type.count))))


def _places(numbers: list[int]) -> Any:
    """Which elements of a pair of vectors to choose."""
    return ir.Constant(ir.VectorType(_INDEX, len(numbers)), numbers)
