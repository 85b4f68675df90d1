"""Vectors of sixteen float32 in registers, and their arithmetic.

A value is a numba scalar of type ``Lanes``: kept in local variables, never in arrays. Lanes are
consecutive values of a row, or four pixels of four channels each, of which the last is unused.
``+``, ``-``, ``*``, ``min``, ``max`` and ``abs`` take them as they take a float32, which may be the
other operand, so the arithmetic of ``pixel.py`` is compiled for both.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core.datamodel import register_default
from numba.core.datamodel.models import PrimitiveModel

from cp2fast.copypaste.cpu import pixel

WIDE = 16
FLOATS = ir.VectorType(ir.FloatType(), WIDE)
_INDEX = ir.IntType(32)
_FUSED = {"flags": ["contract"]}

# numba has no types.
intrinsic: Callable[[Callable[..., Any]], Any] = extending.intrinsic
_overload: Callable[..., Callable[[Any], Any]] = extending.overload
_type_callable: Callable[..., Callable[[Any], Any]] = extending.type_callable
_lower: Callable[..., Callable[[Any], Any]] = extending.lower_builtin


class _Lanes(types.Type):  # type: ignore[misc]  # numba has no types
    def __init__(self) -> None:
        super().__init__("Lanes")


LANES = _Lanes()


@register_default(_Lanes)
class _LanesModel(PrimitiveModel):  # type: ignore[misc]  # numba has no types
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, FLOATS)


def _binary(operation: Callable[..., Any], generate: Callable[[Any, Any, Any], Any]) -> None:
    """Extend an operation to lanes on either side; ``generate`` takes the builder and two lanes."""

    @_type_callable(operation)
    def typed(_: Any) -> Any:
        def result(one: Any, other: Any) -> Any:
            lanes = LANES in (one, other) and {one, other} <= {LANES, types.float32}
            return LANES if lanes else None

        return result

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pairs = zip(arguments, signature.args, strict=True)
        one, other = (value if kind is LANES else _all(builder, value) for value, kind in pairs)
        return generate(builder, one, other)

    for kinds in ((LANES, LANES), (LANES, types.float32), (types.float32, LANES)):
        _lower(operation, *kinds)(lower)


def _all(builder: Any, value: Any) -> Any:
    """A number in all lanes."""
    one = builder.insert_element(ir.Constant(FLOATS, ir.Undefined), value, _INDEX(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(_INDEX, WIDE), None))


def _smaller(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", one, other), one, other)


def _larger(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", one, other), one, other)


_binary(operator.add, lambda builder, one, other: builder.fadd(one, other, **_FUSED))
_binary(operator.sub, lambda builder, one, other: builder.fsub(one, other, **_FUSED))
_binary(operator.mul, lambda builder, one, other: builder.fmul(one, other, **_FUSED))
_binary(min, _smaller)
_binary(max, _larger)


@_type_callable(abs)
def _typed_magnitude(_: Any) -> Any:
    return lambda value: LANES if value is LANES else None


@_lower(abs, LANES)
def _magnitude(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    kind = ir.FunctionType(FLOATS, [FLOATS])
    function = builder.module.declare_intrinsic(f"llvm.fabs.v{WIDE}f32", (), kind)
    return builder.call(function, arguments)


@intrinsic
def _where_equal(typing_context: Any, one: Any, other: Any, then: Any, rest: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one, other, then, rest = arguments
        return builder.select(builder.fcmp_ordered("==", one, other), then, rest)

    return LANES(LANES, LANES, LANES, LANES), generate


@_overload(pixel.where_equal, strict=False)
def _either(one: Any, other: Any, then: Any, rest: Any) -> Any:
    if one is LANES:
        return lambda one, other, then, rest: _where_equal(one, other, then, rest)
    return pixel.where_equal


@intrinsic
def zeros(typing_context: Any) -> Any:
    """``zeros()``: zero in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(FLOATS, None)

    return LANES(), generate
