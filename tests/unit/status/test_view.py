"""What people and programs get to see of a status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from unit.doctor.made import NOW, Site, pod, waiting, workload

from skerry.status import components, thresholds
from skerry.status.collect import Status
from skerry.status.document import document
from skerry.status.view import render


def status(site: Site) -> Status:
    facts = site.facts()
    found = components.of_cluster(facts.cluster) if facts.cluster else []
    crossings = thresholds.crossed([facts.cluster] if facts.cluster else [], facts.looks, thresholds.parse([]), NOW)
    return Status(
        facts.targets, facts.cluster, facts.looks, found + components.of_hosts(facts.looks), crossings, NOW, 1.0
    )


def shown(found: Status, width: int = 160) -> str:
    with Path("/dev/null").open("w") as nowhere:
        console = Console(width=width, record=True, file=nowhere)
        console.print(render(found, width))
        return console.export_text()


def broken() -> Site:
    site = Site()
    site.lose("agent")
    site.not_ready("agent")
    assert site.cluster is not None
    site.cluster.workloads.append(workload("StatefulSet", "redpanda", "redpanda", 0))
    site.cluster.pods.append(pod("redpanda-0", "redpanda", containerStatuses=waiting("ErrImagePull", "no such host")))
    site.cluster.pod_count, site.cluster.phases["ErrImagePull"] = 1, 1
    site.report("server")["disks"][0]["used_percent"] = 91.0
    outcome = site.cluster.outcomes["claims"]
    outcome.state, outcome.count, outcome.remaining, outcome.error = "partial", 500, 700, "not done within 10 s"
    return site


def test_a_site_that_is_well_is_well() -> None:
    found = status(Site())
    assert found.well
    assert found.answered
    text = shown(found)
    assert "all well" in text
    assert "doctor" not in text
    told = json.loads(json.dumps(document(found)))
    assert (told["well"], told["partial"], told["thresholds"]) == (True, [], [])
    assert told["hosts"]["agent"]["runtimes"] == [
        {"name": "crun-wasm", "version": "", "proved": True, "error": "", "kind": "handler"}
    ]


@pytest.mark.parametrize("width", [60, 80, 160, 240])
def test_everything_that_is_wrong_is_shown_on_any_terminal(width: int) -> None:
    found = status(broken())
    assert not found.well
    text = shown(found, width)
    for words in ("needs attention", "agent", "server", "redpanda", "ErrImagePull", "disk", "partial", "500 of 1,200"):
        assert words in text, words


def test_everything_that_is_wrong_is_in_the_data() -> None:
    told = json.loads(json.dumps(document(status(broken()))))
    assert not told["well"]
    assert told["partial"] == ["claims", "host agent"]
    assert told["hosts"]["agent"]["error"]["code"] == "TARGET_003"
    assert told["cluster"]["reads"]["claims"]["remaining"] == 700
    (ill,) = told["cluster"]["pods"]["unwell"]
    assert (ill["name"], ill["reasons"]) == ("redpanda-0", ["no such host"])
    assert [one["threshold"] for one in told["thresholds"]] == ["disk"]
    assert {one["name"]: one["state"] for one in told["components"]}["redpanda"] == "down"


def test_an_api_that_does_not_answer_is_no_empty_cluster() -> None:
    site = Site()
    site.silent("refused", "https://10.0.0.1:6443 refuses the connection")
    found = status(site)
    assert not found.well
    text = shown(found)
    assert "refuses the connection" in text
    assert "API does not answer" in text
    assert "pods 0" not in text


def test_many_nodes_are_summed_up() -> None:
    site = Site()
    assert site.cluster is not None
    one = site.cluster.nodes["agent"]
    for number in range(500):
        copy = type(one)(**{name: getattr(one, name) for name in one.__slots__})
        copy.name, copy.region, copy.host_type = f"n{number}", "eu" if number % 2 else "us", "edge"
        site.cluster.nodes[copy.name] = copy
    site.cluster.nodes["n7"].ready = "Unknown"
    text = shown(status(site))
    assert len(text.splitlines()) < 60
    assert "n7" in text
    assert "n8" not in text
    assert "502, by region and type" in text
