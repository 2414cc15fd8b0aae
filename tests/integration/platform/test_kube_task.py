"""How the modules that bring objects into their state end where no API answers: the real modules, run by Ansible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from one_module import call

ARGUMENTS = {
    "skerry.edge.k3s_apply": {"owner": "sensors", "port": 1, "timeout": 2},
    "skerry.edge.helm_release": {"name": "sensors", "namespace": "sensors", "chart": "x", "port": 1, "timeout": 2},
}


def ask(module: str, *words: str, **arguments: Any) -> dict[str, Any]:
    """The result of one call of a module on this machine."""
    space = {"kind": "Namespace", "metadata": {"name": "sensors"}}
    secret = {"kind": "Secret", "metadata": {"name": "key"}, "stringData": {"key": "not-to-be-shown"}}
    called = call(module, {**ARGUMENTS[module], "objects": [space, secret], **arguments}, "-vvv", *words)
    assert "not-to-be-shown" not in called.output
    return called.result


@pytest.mark.parametrize("module", ARGUMENTS)
def test_an_api_that_never_answers_ends_the_task_at_its_deadline(module: str) -> None:
    result = ask(module)
    assert result["failed"]
    assert result["msg"].startswith("CHART_013 the API does not answer: ")
    assert result["code"] == "CHART_013"


@pytest.mark.parametrize("module", ARGUMENTS)
def test_a_check_without_an_api_expects_changes_and_does_not_wait(module: str) -> None:
    result = ask(module, "--check", timeout=600)
    assert result["changed"]
    assert result["msg"].startswith("the API cannot be asked: ")


@pytest.mark.skipif(Path("/var/lib/rancher/k3s/server").exists(), reason="this machine is a server of k3s")
@pytest.mark.parametrize("module", ARGUMENTS)
def test_nothing_is_taken_away_where_there_is_no_k3s(module: str) -> None:
    result = ask(module, state="absent")
    assert not result["changed"]
    assert result["msg"] == "there is no k3s server on this host"
