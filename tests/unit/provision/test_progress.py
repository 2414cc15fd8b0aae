"""Events of ansible-runner become counts by host and role."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from skerry.provision.progress import Progress
from skerry.provision.view import table


def event(kind: str, **data: Any) -> dict[str, Any]:
    return {"event": kind, "event_data": data}


def run_of_two_roles() -> Progress:
    progress = Progress()
    for one in (
        event("playbook_on_play_start", name="Hosts"),
        event("playbook_on_task_start", name="a", role="docker"),
        event("runner_on_start", host="edge-1", task="a"),
        event("runner_on_ok", host="edge-1", role="docker", task="a", duration=0.5, res={"changed": True}),
        event("runner_on_ok", host="edge-2", role="docker", task="a", duration=0.5, res={"changed": False}),
        event("playbook_on_task_start", name="b", role="k3s"),
        event("runner_on_failed", host="edge-1", role="k3s", task="b", res={"msg": "K3S_001 bad | remedy: mend"}),
        event("runner_on_unreachable", host="edge-3", role="k3s", task="b", res={"msg": "Connection refused"}),
        event("runner_on_skipped", host="edge-2", role="k3s", task="b"),
    ):
        progress.take(one)
    return progress


def test_counts_by_host_and_role() -> None:
    progress = run_of_two_roles()
    assert progress.roles == ["docker", "k3s"]
    assert progress.hosts["edge-1"].changed == 1
    assert progress.hosts["edge-2"].ok == 1
    assert not progress.hosts["edge-2"].failed
    assert progress.hosts["edge-1"].failures[0].code == "K3S_001"
    assert progress.hosts["edge-3"].unreachable
    assert progress.tasks == 2


def test_ignored_failure_is_no_failure() -> None:
    progress = Progress()
    progress.take(event("runner_on_failed", host="h", task="t", res={"msg": "x"}, ignore_errors=True))
    assert not progress.hosts["h"].failed


def test_unknown_event_is_passed_over() -> None:
    assert not Progress().take(event("runner_item_on_ok", host="h"))


def test_table_shows_hosts_in_trouble_first() -> None:
    console = Console(width=100, record=True, file=None, force_terminal=False, quiet=False)
    with console.capture() as shown:
        console.print(table(run_of_two_roles()))
    rows = [line.split()[0] for line in shown.get().splitlines()[1:]]
    assert rows == ["edge-1", "edge-3", "edge-2"]
    assert "unreachable" in shown.get()
