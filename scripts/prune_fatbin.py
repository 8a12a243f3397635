#!/usr/bin/env python3
"""Takes the GPU code of other cards out of a CUDA shared library, so that it packs small.

usage: prune_fatbin.py IN.so OUT.so [--arch 90]

A CUDA library carries its kernels in the ELF section .nv_fatbin: fat binaries one after another, each a header and
entries for single architectures. Of every fat binary that has code for the card asked for, only those entries stay;
they move to its front, its length is set to what is left, and the rest becomes zeros. The file keeps its size and all
its addresses, so nothing else in it has to change, and it compresses to what is left. A fat binary without code for
the card is left whole: the driver may translate its PTX.

Prints one line: what was kept of what. Fails when the library holds no code for the card.
"""

import argparse
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

SECTION = ".nv_fatbin"
# A fat binary: magic, version, length of this header, length of all entries.
FAT_HEADER = struct.Struct("<IHHQ")
FAT_MAGIC = 0xBA55ED50
# An entry: kind, version, length of this header, length of its payload; the architecture stands at byte 28.
ENTRY_HEADER = struct.Struct("<HHIQ")
ARCH = struct.Struct("<I")
ARCH_AT = 28
KIND_MACHINE_CODE = 2


class NotElf(ValueError):
    """The file is no 64-bit little-endian ELF library, or its tables lead outside of it."""


@dataclass
class Counts:
    """What a run met: fat binaries, those cut, those left whole, and bytes of entries before and after."""

    cut: int = 0
    whole: int = 0
    bytes_before: int = 0
    bytes_after: int = 0


def section_range(library: bytes | bytearray, wanted: str) -> tuple[int, int]:
    """Start and end of a section in the file."""
    if bytes(library[:6]) != b"\x7fELF\x02\x01":
        raise NotElf("not a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", library, 0x28)
    size, count, names_index = struct.unpack_from("<HHH", library, 0x3A)
    # Of each section header: name, offset and length.
    headers = [
        (*struct.unpack_from("<I", library, table + size * i), *struct.unpack_from("<QQ", library, table + size * i + 24))
        for i in range(count)
    ]
    names = headers[names_index][1]
    for name, offset, length in headers:
        begin = names + name
        if bytes(library[begin : library.index(0, begin)]) == wanted.encode():
            return offset, offset + length
    raise NotElf(f"no section {wanted}: it holds no GPU code")


def entries(library: bytearray, begin: int, end: int):
    """Yields (start, end, is machine code, architecture) of each entry of a fat binary."""
    while begin + ARCH_AT + ARCH.size <= end:
        kind, _, header, payload = ENTRY_HEADER.unpack_from(library, begin)
        following = begin + header + payload
        if header < ARCH_AT + ARCH.size or following > end:
            raise NotElf(f"a damaged entry at byte {begin}")
        yield begin, following, kind == KIND_MACHINE_CODE, ARCH.unpack_from(library, begin + ARCH_AT)[0]
        begin = following


def cut(library: bytearray, at: int, arch: int, counts: Counts) -> int:
    """Cuts the fat binary at byte `at` down to `arch`. Returns where it ends."""
    magic, version, header, length = FAT_HEADER.unpack_from(library, at)
    begin, end = at + header, at + header + length
    kept = b"".join(bytes(library[a:b]) for a, b, code, of in entries(library, begin, end) if code and of == arch)
    counts.bytes_before += length
    counts.bytes_after += len(kept) or length
    if not kept:
        counts.whole += 1
        return end
    counts.cut += 1
    library[begin:end] = kept + bytes(length - len(kept))
    FAT_HEADER.pack_into(library, at, magic, version, header, len(kept))
    return end


def prune(library: bytearray, arch: int) -> Counts:
    """Cuts every fat binary of `library` in place."""
    counts = Counts()
    at, end = section_range(library, SECTION)
    magic = struct.pack("<I", FAT_MAGIC)
    while (at := library.find(magic, at, end)) >= 0:
        # Fat binaries are aligned; the same four bytes elsewhere are data.
        at = cut(library, at, arch, counts) if at % 8 == 0 else at + 1
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--arch", type=int, default=90, help="compute capability without the dot: 90 is H100 (default)")
    arguments = parser.parse_args()
    library = bytearray(arguments.library.read_bytes())
    try:
        counts = prune(library, arguments.arch)
    except (NotElf, struct.error, IndexError, ValueError) as error:
        print(f"prune_fatbin: {arguments.library}: {error}", file=sys.stderr)
        return 1
    if not counts.cut:
        print(f"prune_fatbin: {arguments.library} has no code for sm_{arguments.arch}", file=sys.stderr)
        return 1
    arguments.output.write_bytes(library)
    print(
        f"sm_{arguments.arch}: {counts.bytes_after / 1e6:.0f} of {counts.bytes_before / 1e6:.0f} MB of GPU code kept, "
        f"{counts.cut} fat binaries cut, {counts.whole} left whole"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
