"""What the CUDA kernels' machine code is made of: the compiler's report and a disassembly."""

from __future__ import annotations

import io
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import triton

from cp2fast.copypaste.cuda.compile import KERNELS, compile_kernel

NVDISASM = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
"""NVIDIA's disassembler, which torch brings for its compiler."""
_LABEL = re.compile(r"^(\.L_\w+):")
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+\s+)?([A-Z]\w*)[\w.]*\s*(.*?)\s*;")


@dataclass(frozen=True)
class Instruction:
    """One line of a disassembly.

    Attributes:
        operation: without its modifiers.
        conditional: under a predicate.
        target: of a jump or a call, the number of an instruction.
    """

    operation: str
    conditional: bool
    target: int | None


@dataclass(frozen=True)
class Code:
    """One kernel.

    Attributes:
        registers: of a thread.
        shared: bytes of a block.
        report: what ptxas says of it.
        instructions: in their order.
    """

    registers: int
    shared: int
    report: str
    instructions: list[Instruction]

    @property
    def operations(self) -> set[str]:
        return {one.operation for one in self.instructions}

    def count(self) -> int:
        return sum(one.operation != "NOP" for one in self.instructions)

    def loops_around(self, operation: str) -> list[Loop]:
        """Those that contain each of its instructions, the innermost first."""
        inside = {i for i, one in enumerate(self.instructions) if one.operation == operation}
        around = [loop for loop in loops(self.instructions) if inside <= loop.body]
        return sorted(around, key=lambda loop: len(loop.body))

    def longest_turn(self, loop: Loop) -> int:
        """Instructions that a warp meets at most in one turn; of inner loops one turn."""
        longest = dict.fromkeys(loop.body, 0)
        for i in loop.order:
            longest[i] += self.instructions[i].operation != "NOP"
            for after in successors(self.instructions, i):
                if after in loop.body and loop.place[after] > loop.place[i]:
                    longest[after] = max(longest[after], longest[i])
        return max(longest[latch] for latch in loop.latches)


@dataclass(frozen=True)
class Loop:
    """A natural loop of a kernel.

    Attributes:
        body: its instructions.
        latches: those from which it goes back to its first.
        order: the body, in an order in which all ways go forward, but those back to a loop's first.
        place: of each instruction in the order.
    """

    body: frozenset[int]
    latches: frozenset[int]
    order: list[int]
    place: dict[int, int]


def successors(instructions: list[Instruction], i: int) -> list[int]:
    """What may come after an instruction."""
    one = instructions[i]
    onwards = one.conditional or one.operation not in {"BRA", "EXIT", "RET"}
    after = [i + 1] if onwards and i + 1 < len(instructions) else []
    return after if one.target is None else [*after, one.target]


def loops(instructions: list[Instruction]) -> list[Loop]:
    """All that a kernel has."""
    order, back = depth_first(instructions)
    before: dict[int, list[int]] = {i: [] for i in range(len(instructions))}
    for i in order:
        for after in successors(instructions, i):
            before[after].append(i)
    found = []
    for first in sorted({first for _, first in back}):
        latches = frozenset(latch for latch, to in back if to == first)
        body, ahead = {first}, list(latches)
        while ahead:
            i = ahead.pop()
            if i not in body:
                body.add(i)
                ahead += before[i]
        inside = [i for i in order if i in body]
        place = {i: number for number, i in enumerate(inside)}
        found.append(Loop(frozenset(body), latches, inside, place))
    return found


def depth_first(instructions: list[Instruction]) -> tuple[list[int], list[tuple[int, int]]]:
    """The instructions, each before all that can follow it, and the ways that go back."""
    finished: list[int] = []
    back = []
    open_, seen = {0}, {0}
    ahead = [(0, iter(successors(instructions, 0)))]
    while ahead:
        i, rest = ahead[-1]
        after = next(rest, None)
        if after is None:
            ahead.pop()
            open_.remove(i)
            finished.append(i)
        elif after in open_:
            back.append((i, after))
        elif after not in seen:
            seen.add(after)
            open_.add(after)
            ahead.append((after, iter(successors(instructions, after))))
    return finished[::-1], back


def inspect(arch: str, folder: Path) -> dict[str, Code]:
    """Compile for an architecture and take apart what comes out, by the kernels' names."""
    return {kernel: _inspect(kernel, arch, folder) for kernel in KERNELS}


def _inspect(kernel: str, arch: str, folder: Path) -> Code:
    logs = io.StringIO()
    file = folder / f"{kernel}.{arch}.cubin"
    file.write_bytes(compile_kernel(kernel, arch, ["-v"], logs))
    [(name, report)] = re.findall(
        r"entry function '(\w+)' for '\w+'\n(.*?Used.*?)\n", logs.getvalue(), re.DOTALL
    )
    assert name == kernel
    listing = subprocess.run([NVDISASM, file], capture_output=True, text=True, check=True).stdout
    [body] = re.findall(
        rf"^\.text\.{kernel}:\n(.*?)(?=^//---|\Z)", listing, re.DOTALL | re.MULTILINE
    )
    return Code(
        registers=number(r"Used (\d+) registers", report),
        shared=number(r"(\d+) bytes smem", report),
        report=report,
        instructions=read(body),
    )


def read(listing: str) -> list[Instruction]:
    """The instructions of a kernel."""
    labels: dict[str, int] = {}
    lines: list[tuple[str, bool, str]] = []
    for line in listing.splitlines():
        if label := _LABEL.match(line):
            labels[label.group(1)] = len(lines)
        elif found := _INSTRUCTION.search(line):
            predicate, operation, operands = found.groups()
            # A jump may have its predicate among its operands.
            conditional = predicate is not None or re.match(r"!?U?P\w", operands) is not None
            lines.append((operation, conditional, operands))
    result = []
    for operation, conditional, operands in lines:
        label = re.search(r"\.L_\w+", operands) if operation in {"BRA", "CALL"} else None
        target = labels[label.group()] if label else None
        result.append(Instruction(operation, conditional, target))
    return result


def number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found, text
    return int(found.group(1))
