"""What k3s's journal says: the causes that the role k3s knows, under the doctor's codes of the same number."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from skerry import paths

_MODULE = "collections/ansible_collections/skerry/edge/plugins/module_utils/k3s_diagnosis.py"
#: Numbers of the role's codes that are about storage or about the runtime; the others are the cluster's.
_STORAGE, _RUNTIME = frozenset(["111"]), frozenset(["113", "114", "116", "120"])


@dataclass(frozen=True)
class Said:
    """A cause that a journal names: the doctor's code, cause, remedy, the line itself.

    ``final``: waiting does not help.
    """

    code: str
    cause: str
    remedy: str
    line: str
    final: bool


@cache
def _known() -> ModuleType:
    """The role's own table: it runs on hosts without Skerry's Python half, so it lives in the collection."""
    spec = importlib.util.spec_from_file_location("skerry_k3s_diagnosis", paths.root() / _MODULE)
    if spec is None or spec.loader is None:
        raise AssertionError(f"{_MODULE} is part of the checkout")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def code_of(number: str) -> str:
    """The doctor's code for the role's ``K3S_<number>``."""
    area = "STORAGE" if number in _STORAGE else "RUNTIME" if number in _RUNTIME else "CLUSTER"
    return f"{area}_{number}"


#: What journalctl puts before a message: time, host, process.
_PREFIX = re.compile(r"^\d{4}-\d\d-\d\dT\S+ \S+ \S+?: ", re.MULTILINE)
#: Words about others (a server tells of each client that it refused) and about what is no fault.
_OTHERS = re.compile(r"Sending HTTP/1\.1 4\d\d response|Failed to set sysctl|Failed to load kernel module")


def _own(journal: str) -> str:
    """The messages alone, without those that do not speak of this k3s."""
    lines = _PREFIX.sub("", journal).splitlines()
    return "\n".join(line for line in lines if not _OTHERS.search(line))


def diagnose(journal: str) -> Said | None:
    """The most telling known cause in a journal."""
    journal = _own(journal)
    found = _known().diagnose(journal)
    if found is None:
        return None
    known, cause = found
    line = next((one for one in reversed(journal.splitlines()) if _matches(known.pattern, one)), "")
    return Said(code_of(known.code.rpartition("_")[2]), cause, known.remedy, line, known.final)


def _matches(pattern: str, line: str) -> bool:
    return re.search(pattern, line) is not None


def last_words(journal: str, count: int) -> list[str]:
    """The last lines that tell something."""
    said: str = _known().last_words(_own(journal), count)
    return [line for line in said.splitlines() if line]
