"""What Ansible refuses as a whole gets a code; texts are those of ansible-core 2.19."""

from __future__ import annotations

import pytest

from skerry.provision.refusals import errors, refusals, unknown_hosts, words_of

CASES = {
    "[ERROR]: Specified inventory, host pattern and/or --limit leaves us with no hosts to target.": "PROVISION_004",
    "[WARNING]: Unable to parse /i as an inventory source\n[ERROR]: No inventory was parsed.": "PROVISION_005",
    "[ERROR]: Attempting to decrypt but no vault secrets found.\nOrigin: /g.yml:1:9": "PROVISION_006",
    "[ERROR]: 'bad' is not a valid attribute for a Play\nOrigin: /p.yml:2:3\n\n1 - hosts: all": "PROVISION_007",
    "[ERROR]: couldn't resolve module/action 'nonsense'. This often indicates a misspelling": "PROVISION_007",
    "[ERROR]: something quite new": "PROVISION_008",
}


@pytest.mark.parametrize("log", CASES)
def test_codes(log: str) -> None:
    assert [found.code for found in refusals(log)] == [CASES[log]]


def test_an_error_keeps_the_lines_that_belong_to_it_and_counts_once() -> None:
    log = "[ERROR]: broken\nOrigin: /p.yml:2:3\n\n2   bad: 1\n[ERROR]: broken\nOrigin: /p.yml:2:3\n"
    assert errors(log) == ["broken Origin: /p.yml:2:3"]


def test_names_in_patterns() -> None:
    assert words_of(["edge:!edge-2,&eu", "a b"]) == ["edge", "edge-2", "eu", "a", "b"]


def test_only_names_of_the_limit_are_unknown_hosts() -> None:
    warning = "[WARNING]: Could not match supplied host pattern, ignoring:"
    log = f"{warning}\nedgy-1\n{warning} skerry_agents"
    (found,) = unknown_hosts(log, ["edgy-1,cloud"], ["edge-1", "cloud"])
    assert "edgy-1" in found.cause
    assert found.remedy.startswith("did you mean edge-1?")
