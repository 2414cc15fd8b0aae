"""When cert-manager is installed, and which ACME solvers its variables make: rendered by Ansible from the role."""

from __future__ import annotations

from typing import Any

import pytest
from role_values import render

SHOWN = {
    "chart": "cert-manager",
    "version": "{{ cert_manager_version }}",
    "asked": "{{ cert_manager_asked_by }}",
    "wanted": "{{ __cert_manager_wanted }}",
    "issuer": "{{ cert_manager_issuer }}",
    "solvers": "{{ __cert_manager_solvers }}",
    "secrets": "{{ __cert_manager_objects_before }}",
    "objects": "{{ __cert_manager_objects | map(attribute='metadata.name') | list }}",
    "ready": "{{ __cert_manager_objects_ready | map(attribute='name') | list }}",
}
HTTP = {"http01": {"ingress": {"ingressClassName": "traefik"}}}
DNS = {"cloudflare": {"apiTokenSecretRef": {"name": "dns", "key": "token"}}}
ACME: dict[str, Any] = {"cert_manager_state": "present", "cert_manager_acme": True}
CASES: dict[str, dict[str, Any]] = {
    "nothing asks": {},
    "redpanda asks": {"redpanda_tls": True},
    "redpanda asks in text": {"redpanda_tls": "true"},
    "redpanda does not ask": {"redpanda_tls": "false"},
    "the registry asks": {"registry_group": "asking"},
    "the registry has its own": {"registry_group": "quiet"},
    "somebody else asks": {"cert_manager_asked_by": ["shop"]},
    "on request": {"cert_manager_state": "present"},
    "left alone": {"cert_manager_state": "unmanaged", "redpanda_tls": True},
    "http": ACME,
    "dns": {**ACME, "cert_manager_acme_dns01": DNS, "cert_manager_acme_secrets": {"dns": {"token": "x"}}},
    "dns for a zone": {**ACME, "cert_manager_acme_dns01": DNS, "cert_manager_acme_dns_zones": ["example.org"],
                       "cert_manager_proof_name": "proof.example.org", "cert_manager_ca": False},
}  # fmt: skip
GROUPS = {
    "asking": {"store-1": {"registry_tls": "own_ca"}, "store-2": {"registry_tls": "cert_manager"}},
    "quiet": {"store-3": {"registry_tls": "own_ca"}, "store-4": {}},
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    told = {"releases": [SHOWN], "cases": CASES, "groups": GROUPS}
    done = render("cert_manager", tmp_path_factory.mktemp("cert_manager"), cases=told)
    return {case: releases[0] for case, releases in done.cases.items()}


ASKED = [
    ("nothing asks", [], False),
    ("redpanda asks", ["redpanda"], True),
    ("redpanda asks in text", ["redpanda"], True),
    ("redpanda does not ask", [], False),
    ("the registry asks", ["registry"], True),
    ("the registry has its own", [], False),
    ("somebody else asks", ["shop"], True),
    ("on request", [], True),
    ("left alone", ["redpanda"], False),
]


@pytest.mark.parametrize(("case", "asked", "wanted"), ASKED, ids=[row[0] for row in ASKED])
def test_who_asks_decides(shown: dict[str, dict[str, Any]], case: str, asked: list[str], wanted: bool) -> None:
    assert (shown[case]["asked"], shown[case]["wanted"]) == (asked, wanted)


def test_an_authority_of_the_site_is_the_default(shown: dict[str, dict[str, Any]]) -> None:
    assert shown["on request"]["issuer"] == "skerry"
    assert shown["on request"]["objects"] == ["skerry-self-signed", "skerry-ca", "skerry", "skerry-proof"]
    assert shown["on request"]["ready"] == ["skerry", "skerry-ca", "skerry-proof"]


def test_acme_solves_by_http_unless_dns_is_given(shown: dict[str, dict[str, Any]]) -> None:
    assert shown["http"]["solvers"] == [HTTP]
    assert shown["dns"]["solvers"] == [{"dns01": DNS}]
    assert shown["dns for a zone"]["solvers"] == [{"dns01": DNS, "selector": {"dnsZones": ["example.org"]}}, HTTP]
    assert shown["http"]["issuer"] == "skerry-acme"


def test_acme_is_proved_by_a_name_or_by_its_account(shown: dict[str, dict[str, Any]]) -> None:
    assert shown["http"]["objects"] == ["skerry-self-signed", "skerry-ca", "skerry", "skerry-acme"]
    assert shown["http"]["ready"] == ["skerry-acme", "skerry-ca"]
    assert shown["dns for a zone"]["objects"] == ["skerry-acme", "skerry-proof"]
    assert shown["dns for a zone"]["ready"] == ["skerry-acme", "skerry-proof"]


def test_credentials_lie_where_the_solver_looks(shown: dict[str, dict[str, Any]]) -> None:
    (secret,) = shown["dns"]["secrets"]
    assert secret["metadata"] == {"name": "dns", "namespace": "cert-manager"}
    assert secret["stringData"] == {"token": "x"}
