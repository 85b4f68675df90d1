"""Load ``Lanes`` from arrays and store them.

Arrays are contiguous and indices are uint64; neither is checked, so an array must be long enough
for all lanes of the last value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from llvmlite import ir
from numba import types

from cp2fast.copypaste.cpu.lanes import FLOATS, LANES, WIDE, intrinsic

LINE = 64
"""Bytes of a cache line."""

_INDEX = ir.IntType(32)
_BYTE = ir.IntType(8)
_PIXEL = ir.VectorType(ir.FloatType(), 4)
_BYTES, _SHORTS, _WORDS = (ir.VectorType(ir.IntType(bits), WIDE) for bits in (8, 16, 32))


def _place(context: Any, builder: Any, element: Any, kind: Any, values: Any, first: Any) -> Any:
    """Pointer to an ``element`` at index ``first`` of the array ``values``, of numba's ``kind``."""
    data = context.make_array(kind)(context, builder, values).data
    return builder.bitcast(builder.gep(data, [first]), element.as_pointer())


def _loading(vector: Any, align: int, convert: Callable[[Any, Any], Any]) -> Any:
    """A function that loads a ``vector``; ``convert`` takes the builder, and makes it lanes."""

    @intrinsic
    def load(typing_context: Any, values: Any, first: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            place = _place(context, builder, vector, signature.args[0], *arguments)
            return convert(builder, builder.load(place, align=align))

        return LANES(values, types.uint64), generate

    return load


def _storing(vector: Any, align: int, convert: Callable[[Any, Any], Any]) -> Any:
    """A function that stores lanes as a ``vector``, which ``convert`` makes of them."""

    @intrinsic
    def put(typing_context: Any, values: Any, first: Any, lanes: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values, first, lanes = arguments
            place = _place(context, builder, vector, signature.args[0], values, first)
            builder.store(convert(builder, lanes), place, align=align)
            return context.get_dummy_value()

        return types.void(values, types.uint64, LANES), generate

    return put


def _from_bytes(builder: Any, values: Any) -> Any:
    # Signed conversion, as there is no unsigned one before AVX-512.
    return builder.sitofp(builder.zext(values, _WORDS), FLOATS)


def _to_bfloat16(builder: Any, lanes: Any) -> Any:
    bits = _add_half(builder, builder.bitcast(lanes, _WORDS), 16)
    return builder.trunc(builder.lshr(bits, _words(16)), _SHORTS)


def _to_float16(builder: Any, lanes: Any) -> Any:
    # In integers, as not every CPU has an instruction for it.
    bits = builder.bitcast(lanes, _WORDS)
    sign = builder.and_(builder.lshr(bits, _words(16)), _words(0x8000))
    magnitude = builder.and_(bits, _words(0x7FFFFFFF))
    rebased = builder.sub(_add_half(builder, magnitude, 13), _words(112 << 23))
    normal = builder.lshr(rebased, _words(13))
    # Adding and subtracting 2^23 rounds a float32 to an integer, ties to even.
    steps = builder.fmul(builder.bitcast(magnitude, FLOATS), _floats(2**24))
    whole = builder.fsub(builder.fadd(steps, _floats(2**23)), _floats(2**23))
    large = builder.icmp_unsigned(">=", magnitude, _words(113 << 23))
    # A number that is too large for an integer here is not chosen.
    subnormal = builder.fptosi(builder.select(large, _floats(0), whole), _WORDS)
    return builder.trunc(builder.or_(sign, builder.select(large, normal, subnormal)), _SHORTS)


def _add_half(builder: Any, bits: Any, dropped: int) -> Any:
    """Add what makes dropping the last bits round to the nearest, ties to even."""
    odd = builder.and_(builder.lshr(bits, _words(dropped)), _words(1))
    return builder.add(builder.add(bits, _words((1 << dropped - 1) - 1)), odd)


def _words(number: int) -> Any:
    return ir.Constant(_WORDS, [number] * WIDE)


def _floats(number: float) -> Any:
    return ir.Constant(FLOATS, [number] * WIDE)


load = _loading(FLOATS, 4, lambda builder, lanes: lanes)
"""``load(values, first)``: the float32 values from ``first`` on."""
load_bytes = _loading(_BYTES, 1, _from_bytes)
"""``load_bytes(values, first)``: the uint8 values from ``first`` on."""
put = _storing(FLOATS, 4, lambda builder, lanes: lanes)
"""``put(values, first, lanes)``: write all lanes from ``first`` on."""
put_bfloat16 = _storing(_SHORTS, 2, _to_bfloat16)
"""``put_bfloat16(values, first, lanes)``: write all lanes as bits of bfloat16."""
put_float16 = _storing(_SHORTS, 2, _to_float16)
"""``put_float16(values, first, lanes)``: write all lanes, below 65,504, as bits of float16."""


@intrinsic
def load_pixels(typing_context: Any, values: Any, one: Any, two: Any, three: Any, four: Any) -> Any:
    """``load_pixels(values, *places)``: four float32 values at each of four places."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, *places = arguments
        pointers = [
            _place(context, builder, _PIXEL, signature.args[0], values, place) for place in places
        ]
        one, two, three, four = (builder.load(pointer, align=4) for pointer in pointers)
        return _join(builder, _join(builder, one, two), _join(builder, three, four))

    return LANES(values, *(types.uint64,) * 4), generate


@intrinsic
def put_pixels(
    typing_context: Any, values: Any, red: Any, green: Any, blue: Any, lanes: Any
) -> Any:
    """``put_pixels(values, red, green, blue, lanes)``: write four pixels by channel."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, *channels, lanes = arguments
        for number, first in enumerate(channels):
            channel = _chosen(builder, lanes, lanes, range(number, WIDE, 4))
            place = _place(context, builder, _PIXEL, signature.args[0], values, first)
            builder.store(channel, place, align=4)
        return context.get_dummy_value()

    return types.void(values, *(types.uint64,) * 3, LANES), generate


@intrinsic
def put_interleaved(
    typing_context: Any, values: Any, first: Any, red: Any, green: Any, blue: Any
) -> Any:
    """``put_interleaved(values, first, red, green, blue)``: write sixteen pixels of three."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, first, red, green, blue = arguments
        pairs = _join(builder, red, green), _join(builder, blue, blue)
        for begin in range(0, 3 * WIDE, WIDE):
            numbers = [n % 3 * WIDE + n // 3 for n in range(begin, begin + WIDE)]
            at = builder.add(first, ir.Constant(first.type, begin))
            place = _place(context, builder, FLOATS, signature.args[0], values, at)
            builder.store(_chosen(builder, *pairs, numbers), place, align=4)
        return context.get_dummy_value()

    return types.void(values, types.uint64, LANES, LANES, LANES), generate


def _join(builder: Any, one: Any, other: Any) -> Any:
    """Concatenate two vectors."""
    return _chosen(builder, one, other, range(2 * one.type.count))


def _chosen(builder: Any, one: Any, other: Any, numbers: Iterable[int]) -> Any:
    """The elements of two concatenated vectors with these numbers."""
    mask = list(numbers)
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_INDEX, len(mask)), mask))


@intrinsic
def stream(typing_context: Any, target: Any, at: Any, source: Any, first: Any) -> Any:
    """``stream(target, at, source, first)``: copy 64 bytes, bypassing the cache.

    ``target`` must be aligned to 64 bytes at this index, and should not be read again soon.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, at, source, first = arguments
        kinds = signature.args
        lanes = builder.load(_place(context, builder, FLOATS, kinds[2], source, first), align=4)
        place = _place(context, builder, FLOATS, kinds[0], target, at)
        store = builder.store(lanes, place, align=64)
        one = ir.Constant(_INDEX, 1)
        store.set_metadata("nontemporal", builder.module.add_metadata([one]))
        return context.get_dummy_value()

    return types.void(target, types.uint64, source, types.uint64), generate


@intrinsic
def settle(typing_context: Any) -> Any:
    """``settle()``: make streamed data visible to other threads."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def prefetch(typing_context: Any, values: Any, first: Any) -> Any:
    """``prefetch(values, first)``: load the cache line of this index."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, _BYTE, signature.args[0], *arguments)
        kind = ir.FunctionType(ir.VoidType(), [place.type, _INDEX, _INDEX, _INDEX])
        function = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
        builder.call(function, [place, _INDEX(0), _INDEX(3), _INDEX(1)])  # read, near, data
        return context.get_dummy_value()

    return types.void(values, types.uint64), generate
