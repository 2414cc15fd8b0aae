"""What is read of a host for the broker: from trees of files as boards and machines have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.skerry.edge.plugins.module_utils.broker_host import address_bits, look, unable
from unit.hosts.trees import put, tree

# Lines of a process's map under Raspberry Pi OS (39 bits) and under Debian's own arm64 kernel (48).
PI_MAPS = "7fd2a3e000-7fd2a5f000 rw-p 00000000 00:00 0                          [stack]\n"
DEBIAN_MAPS = "ffffc5a1e000-ffffc5a3f000 rw-p 00000000 00:00 0                      [stack]\n"


@pytest.mark.parametrize(
    ("files", "bits"),
    [
        ({"/proc/self/maps": PI_MAPS}, 39),
        ({"/proc/self/maps": DEBIAN_MAPS}, 48),
        ({"/proc/self/maps": "bea1c000-bea3d000 rw-p 00000000 00:00 0 [stack]\n"}, 0),
        ({"/boot/config-6.1.0-test": "CONFIG_ARM64_VA_BITS_47=y\nCONFIG_ARM64_VA_BITS=47\n"}, 47),
        ({"/boot/config-6.1.0-test": "CONFIG_ARM64_VA_BITS=39\n", "/proc/self/maps": DEBIAN_MAPS}, 39),
        ({}, 0),
    ],
)
def test_address_bits(tmp_path: Path, files: dict[str, str], bits: int) -> None:
    host = tree(tmp_path)
    for name, text in files.items():
        put(tmp_path, name, text)
    assert address_bits(host) == bits


def test_all_of_it(tmp_path: Path) -> None:
    host = tree(tmp_path)
    assert look(host) == {"sse4_2": None, "address_bits": 0, "aio_max": 0, "aio_used": 0}
    put(tmp_path, "/proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu sse4_1 sse4_2 avx2\n")
    put(tmp_path, "/proc/sys/fs/aio-max-nr", "65536\n")
    put(tmp_path, "/proc/sys/fs/aio-nr", "128\n")
    assert look(host) == {"sse4_2": True, "address_bits": 0, "aio_max": 65536, "aio_used": 128}


@pytest.mark.parametrize(
    ("machine", "found", "reason"),
    [
        ("x86_64", {"sse4_2": False}, "the processor lacks SSE4.2"),
        ("x86_64", {"sse4_2": None}, ""),
        ("aarch64", {"address_bits": 39}, "the kernel has 39 address bits of 47 needed"),
        ("aarch64", {"address_bits": 47}, ""),
        ("aarch64", {"address_bits": 0}, ""),
        ("armv7l", {}, "there is no Redpanda for armv7l"),
    ],
)
def test_who_cannot_carry_a_broker(machine: str, found: dict[str, int | bool | None], reason: str) -> None:
    assert unable(found, machine) == ([reason] if reason else [])
