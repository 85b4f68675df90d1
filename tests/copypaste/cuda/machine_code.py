"""What the CUDA kernels' machine code is made of: the compiler's report and a disassembly."""

from __future__ import annotations

import io
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import triton

from cp2fast.copypaste.cuda.compile import compile_kernels

NVDISASM = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
"""NVIDIA's disassembler, which torch brings for its compiler."""


@dataclass(frozen=True)
class Code:
    """One kernel.

    Attributes:
        registers: of a thread.
        shared: bytes of a block.
        report: what ptxas says of it.
        operations: how often each occurs, without its modifiers.
    """

    registers: int
    shared: int
    report: str
    operations: Counter[str]

    def instructions(self) -> int:
        return self.operations.total() - self.operations["NOP"]


def inspect(arch: str, folder: Path) -> dict[str, Code]:
    """Compile for an architecture and take apart what comes out, by the kernels' names."""
    logs = io.StringIO()
    file = folder / f"{arch}.cubin"
    file.write_bytes(compile_kernels(arch, ["-v"], logs))
    reports = re.findall(
        r"entry function '(\w+)' for '\w+'\n(.*?Used.*?)\n", logs.getvalue(), re.DOTALL
    )
    listing = subprocess.run([NVDISASM, file], capture_output=True, text=True, check=True).stdout
    bodies = re.findall(r"^\.text\.(\w+):\n(.*?)(?=^//---|\Z)", listing, re.DOTALL | re.MULTILINE)
    operation = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\w*)")
    counts = {name: Counter(operation.findall(body)) for name, body in bodies}
    return {
        name: Code(
            registers=number(r"Used (\d+) registers", report),
            shared=number(r"(\d+) bytes smem", report),
            report=report,
            operations=counts[name],
        )
        for name, report in reports
    }


def number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found, text
    return int(found.group(1))
