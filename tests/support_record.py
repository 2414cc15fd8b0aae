"""What the tests saw, as records; docs/support.md is made from them by tools/support_table.py and by nothing else.

In a test (unit, integration, e2e, or testinfra below molecule/) take the fixture ``support``::

    def test_k3s_is_ready(host, support):
        ...                                                      # the assertions
        support.ran(host, "k3s agent", "node Ready, pod ran")    # family and architecture are read from the host

    def test_zypper_tasks(support):
        support("docker", "openSUSE Leap 15.6", "amd64", "rendered", "package names and repository file")

Records are written when the test has passed, and only then. One JSON line each goes to ``$SKERRY_SUPPORT_DIR``
(default ``.skerry/support`` of the checkout), one file a process. `record` does the same outside pytest.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from skerry import paths
from skerry.testing.support import MACHINES, Record, family_of, record, write

__all__ = ["Support", "pytest_runtest_makereport", "record", "support"]


@dataclass
class Support:
    """The fixture: collects a test's records until its outcome is known."""

    evidence: str
    records: list[Record] = field(default_factory=list)

    def __call__(self, component: str, family: str, arch: str, outcome: str, detail: str = "") -> None:
        self.records.append(Record(component, family, arch, outcome, self.evidence, detail))

    def ran(self, host: Any, component: str, detail: str = "") -> None:
        """``component`` ran on the testinfra host ``host``."""
        info = host.system_info
        self(component, family_of(info.distribution, info.release), MACHINES[info.arch], "ran here", detail)


_PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Remember whether the test's own part passed (imported by the conftest.py that offers the fixture)."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call":
        item.stash[_PASSED] = report.passed


@pytest.fixture
def support(request: pytest.FixtureRequest) -> Generator[Support, None, None]:
    """Records what this test proves about a component on a family and architecture; see the module's text."""
    path = Path(request.node.path).resolve()
    root = paths.root()
    where = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    collected = Support(f"{where}::{request.node.originalname}")
    yield collected
    if request.node.stash.get(_PASSED, False):
        write(collected.records)
