"""Records of what the tests saw: which component, on which family and architecture, with which outcome.

docs/support.md is made from them by tools/support_table.py and by nothing else. Tests write them through the fixture
``support`` (tests/support_record.py).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from skerry import paths

#: From the strongest to the weakest claim; the table shows the strongest one for each cell.
OUTCOMES = ("ran here", "accepted by a real API", "rendered", "unsupported")
ARCHITECTURES = ("amd64", "arm64", "armv7")
FAMILIES = (
    "Debian 12", "Debian 13", "Ubuntu 22.04", "Ubuntu 24.04", "Ubuntu 26.04",
    "Raspberry Pi OS 12", "Raspberry Pi OS 13", "EL 9", "EL 10", "openSUSE Leap 15.6", "openSUSE Leap 16.0",
)  # fmt: skip
COMPONENTS = (
    "bootstrap", "preflight", "host_tuning", "docker", "k3s server", "k3s agent", "k3s pods",
    "crun", "wasmedge", "wasmtime", "runwasi shims", "rung native", "rung embedded", "rung process",
    "rung container", "rung pod", "helm_chart", "security baseline", "cert-manager", "nfs", "redpanda", "kwasm",
    "prometheus", "grafana", "node exporter", "registry", "air-gapped site", "images", "workload",
    "status and doctor",
)  # fmt: skip
#: `uname -m` and Debian's names as the table's.
MACHINES = {
    "x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armv7l": "armv7", "armhf": "armv7",
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Record:
    """One observation. ``evidence`` is the test that made it; ``detail`` says in a few words what it saw."""

    component: str
    family: str
    arch: str
    outcome: str
    evidence: str
    detail: str = ""

    def __post_init__(self) -> None:
        for value, known in ((self.component, COMPONENTS), (self.family, FAMILIES), (self.arch, ARCHITECTURES),
                             (self.outcome, OUTCOMES)):  # fmt: skip
            if value not in known:
                raise ValueError(f"support record: {value!r} is none of {', '.join(known)}")


def directory() -> Path:
    """Where records are appended."""
    named = os.environ.get("SKERRY_SUPPORT_DIR")
    return Path(named) if named else paths.state() / "support"


def write(records: Iterable[Record]) -> None:
    """Append ``records`` to this process's file."""
    lines = [json.dumps(asdict(item), sort_keys=True) + "\n" for item in records]
    if lines:
        folder = directory()
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as out:
            out.writelines(lines)


def record(component: str, family: str, arch: str, outcome: str, evidence: str, detail: str = "") -> None:
    """Append one record at once.

    Raises:
        ValueError: a name that is in none of the lists above.
    """
    write([Record(component, family, arch, outcome, evidence, detail)])


def family_of(distribution: str, release: str) -> str:
    """The table's name of a distribution, from os-release's ID and VERSION_ID.

    Raises:
        ValueError: the table has no such family.
    """
    major = release.split(".", maxsplit=1)[0]
    name = {
        "debian": f"Debian {major}", "ubuntu": f"Ubuntu {release}", "raspbian": f"Raspberry Pi OS {major}",
        "rhel": f"EL {major}", "rocky": f"EL {major}", "almalinux": f"EL {major}", "centos": f"EL {major}",
        "opensuse-leap": f"openSUSE Leap {release}",
    }.get(distribution.lower(), f"{distribution} {release}")  # fmt: skip
    if name not in FAMILIES:
        raise ValueError(f"support record: no family for {distribution} {release}")
    return name
