"""Fixtures and settings of all tests."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings
from matrix import leave_out
from support_record import pytest_runtest_makereport, support

from skerry import paths
from skerry.testing.needs import unmet
from skerry.testing.stages import Need

__all__ = ["pytest_runtest_makereport", "support"]

# Examples share the machine with everything else that runs: a slow one is no failure. They are the same ones each time,
# so that a change alone turns a test red; the whole matrix looks for new ones.
settings.register_profile("skerry", deadline=None, derandomize=os.environ.get("SKERRY_TEST_MODE") != "full")
settings.load_profile("skerry")


_unmet = functools.cache(functools.partial(unmet, install=False))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot run (hosts, browser, k3s) or this run leaves out (full)."""
    leave_out(items)
    for item in items:
        for need in Need:
            if item.get_closest_marker(need.value) and (reason := _unmet(need)):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared_inventory() -> Path:
    """The inventory of the hosts that all scenarios share (molecule/inventory); skips when they are not up.

    `skerry test` makes them before the scenarios and removes them after the end-to-end tests. Leave them converged.
    """
    inventory = paths.root() / "molecule" / "inventory"
    listed = subprocess.run(
        ["docker", "ps", "--filter", "label=dev.skerry.sandbox=skerry-test", "--format", "{{json .Names}}"],
        capture_output=True, text=True, check=False,
    )
    up = {json.loads(line) for line in listed.stdout.splitlines()}
    wanted = {f"skerry-test-{host}" for host in ("cloud-1", "edge-1", "edge-2")}
    if not wanted <= up:
        pytest.skip("the shared hosts are not up: ansible-playbook playbooks/sandbox_up.yml -i molecule/inventory")
    return inventory
