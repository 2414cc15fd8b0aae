"""Empty programs: the harness's own floor. The smallest things that a kernel, or an engine, starts and ends at once."""

from __future__ import annotations

import struct

#: ``exit(0)`` as machine code, with the ELF machine number and word size of its architecture.
_EXITS: dict[str, tuple[int, int, bytes]] = {
    # mov eax, 60; xor edi, edi; syscall
    "x86_64": (62, 64, bytes.fromhex("b83c00000031ff0f05")),
    # mov x8, 93; mov x0, 0; svc 0
    "aarch64": (183, 64, bytes.fromhex("a80b80d2000080d2010000d4")),
    # mov r7, 1; mov r0, 0; svc 0 (ARM state, EABI)
    "armv7l": (40, 32, bytes.fromhex("0170a0e30000a0e3000000ef")),
    # li a7, 93; li a0, 0; ecall
    "riscv64": (243, 64, bytes.fromhex("9308d0051305000073000000")),
}

#: ``(module (func (export "_start")) (memory (export "memory") 1))``: WASI wants the memory.
EMPTY_WASM = bytes.fromhex(
    "0061736d01000000"  # magic, version
    "010401600000"  # type 0: () -> ()
    "03020100"  # function 0 has type 0
    "0503010001"  # a memory of one page
    "071302"
    "066d656d6f72790200"
    "065f73746172740000"  # exports: memory, _start
    "0a040102000b"  # one empty body
)


def empty_program(arch: str) -> bytes | None:
    """A static ELF executable that exits with 0; None for an architecture whose code is not known here."""
    found = _EXITS.get(arch)
    if found is None:
        return None
    machine, bits, code = found
    base, header, segment = 0x400000, (64 if bits == 64 else 52), (56 if bits == 64 else 32)
    start = header + segment
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1, 1]) + bytes(9)
    size = start + len(code)
    flags = 0x05000000 if arch == "armv7l" else 0
    if bits == 64:
        head = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, base + start, 64, 0, flags, 64, 56, 1, 0, 0, 0)
        table = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    else:
        head = struct.pack("<HHIIIIIHHHHHH", 2, machine, 1, base + start, 52, 0, flags, 52, 32, 1, 0, 0, 0)
        table = struct.pack("<IIIIIIII", 1, 0, base, base, size, size, 5, 0x1000)
    return ident + head + table + code
