"""Each rule on facts of its own: what it names first, and that all are silent on a site that is well."""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path

import pytest
from rich.console import Console
from unit.doctor.cases import CASES, both, objects, pods
from unit.doctor.made import Site, event, pod, spoilt, without

from skerry import paths
from skerry.doctor.collect import diagnose
from skerry.doctor.findings import Finding, rank
from skerry.doctor.view import document, render
from skerry.testing.codes import scan


def test_nothing_is_said_of_a_site_that_is_well() -> None:
    assert diagnose(Site().facts()) == []


@pytest.mark.parametrize("name", CASES)
def test_the_cause_comes_first(name: str) -> None:
    spoil, code, where = CASES[name]
    found = diagnose(spoilt(spoil))
    assert found, "nothing was found"
    assert (found[0].code, found[0].where) == (code, where), [
        f"{one.code} {one.where} {one.likelihood}" for one in found
    ]
    beside = [one for one in found[1:] if one.likelihood >= 0.5]
    assert not beside, f"consequences stand as causes: {[(one.code, one.where) for one in beside]}"


@pytest.mark.parametrize("name", CASES)
def test_a_cause_can_be_confirmed_and_is_shown(name: str) -> None:
    facts = spoilt(CASES[name][0])
    found = diagnose(facts)
    for one in found:
        assert shlex.split(one.confirm), f"{one.code} has no command"
        assert one.remedy
        assert 0 < one.likelihood < 1
    told = json.loads(json.dumps(document(facts, found, 1.0)))
    assert told["causes"][0]["code"] == CASES[name][1]
    for width in (60, 160):
        with Path("/dev/null").open("w") as nowhere:
            console = Console(width=width, record=True, file=nowhere)
            console.print(render(facts, found, 1.0, True))
            text = console.export_text()
        assert CASES[name][1] in text
        assert "confirm" in text


@pytest.mark.parametrize("name", CASES)
def test_what_could_not_be_seen_breaks_no_rule(name: str) -> None:
    facts = spoilt(CASES[name][0])
    for host, look in facts.looks.items():
        for missing in look.report:
            found = diagnose(without(facts, host, missing))
            assert len(found) == len({(one.code, one.where, one.cause) for one in found})


@pytest.mark.parametrize(
    ("reason", "code"), [("FailedCreatePodSandBox", "RUNTIME_205"), ("FailedMount", "STORAGE_218")]
)
def test_an_event_of_an_earlier_pod_of_that_name_is_not_about_this_one(reason: str, code: str) -> None:
    one = pod()
    told = event(reason, "rpc error: desc = no", one.name)
    facts = spoilt(both(pods(one), objects("events", told)))
    assert [found.code for found in diagnose(facts)] == [code]
    assert one.trouble
    one.trouble.created = told.fields["last"] + 1
    assert diagnose(facts) == []


def test_hosts_alone_and_the_cluster_alone_are_enough() -> None:
    site = Site()
    site.cluster = None
    assert diagnose(site.facts()) == []
    site = Site()
    site.looks = {}
    assert diagnose(site.facts()) == []


def test_what_follows_stands_below_its_cause_and_nothing_is_lost() -> None:
    top = Finding("A_001", "a", "r", "x", likelihood=0.9, explains=(("B_001", "y"),))
    middle = Finding("B_001", "b", "r", "y", likelihood=0.5, explains=(("C_001", "*"), ("A_001", "x")))
    low = Finding("C_001", "c", "r", "z", likelihood=0.7)
    alone = Finding("D_001", "d", "r", likelihood=0.95)
    found = rank([low, middle, top, alone, top])
    assert [one.code for one in found] == ["D_001", "A_001"]
    assert sorted(one.code for one in found[1].follows) == ["B_001", "C_001"]


def test_hundreds_of_nodes_are_ranked_in_no_time_and_shown_on_a_screen() -> None:
    site = Site()
    assert site.cluster is not None
    agent = site.cluster.nodes["agent"]
    for number in range(600):
        node = type(agent)(**{name: getattr(agent, name) for name in agent.__slots__})
        node.name, node.ready = f"n{number}", "Unknown"
        site.cluster.nodes[node.name] = node
        site.cluster.pods += [pod(f"web-{number}-{index}", node=node.name) for index in range(5)]
    start = time.monotonic()
    found = diagnose(site.facts())
    assert time.monotonic() - start < 3
    assert sum(one.code == "CLUSTER_230" for one in found) == 600
    with Path("/dev/null").open("w") as nowhere:
        console = Console(width=120, record=True, file=nowhere)
        console.print(render(site.facts(), found, 1.0))
        text = console.export_text()
    assert len(text.splitlines()) < 60
    assert "592 more of CLUSTER_230" in text


def test_findings_that_explain_each_other_do_not_both_vanish() -> None:
    one = Finding("A_001", "a", "r", "x", likelihood=0.6, explains=(("B_001", "*"),))
    two = Finding("B_001", "b", "r", "y", likelihood=0.9, explains=(("A_001", "*"),))
    (found,) = rank([one, two])
    assert (found.code, found.follows[0].code) in {("A_001", "B_001"), ("B_001", "A_001")}


def test_every_code_has_a_case_or_is_a_variant() -> None:
    """Codes in the doctor's sources that no case produces are named here, so that none is forgotten."""
    named = {use.code for use in scan(paths.root()) if use.path.startswith("tools/skerry/doctor/")}
    produced = {code for _, code, _ in CASES.values()}
    others = named - produced
    assert all(re.fullmatch(r"(CLUSTER|STORAGE|BROKER|RUNTIME)_\d{3}", code) for code in named)
    assert others <= {
        "CLUSTER_232",
        "CLUSTER_233",
        "CLUSTER_234",
        "CLUSTER_238",
        "CLUSTER_252",
        "CLUSTER_253",
        "CLUSTER_254",
        "CLUSTER_255",
        "CLUSTER_258",
        "STORAGE_205",
        "STORAGE_213",
        "STORAGE_214",
        "STORAGE_215",
        "STORAGE_216",
        "STORAGE_217",
        "STORAGE_218",
        "STORAGE_219",
        "BROKER_204",
        "BROKER_206",
        "BROKER_207",
    }, sorted(others)
