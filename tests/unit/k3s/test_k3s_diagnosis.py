"""Real lines of k3s's journal lead to their causes, the telling ones before their consequences."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.skerry.edge.plugins.module_utils import k3s_diagnosis as diagnosis
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.k3s_wait import Wait, poll

LINES = {
    "K3S_101": 'time="x" level=fatal msg="Error: flag provided but not defined: -tls-san"',
    "K3S_102": ('level=fatal msg="Error: token CA hash does not match the Cluster CA certificate hash: 1 != 2"'),
    "K3S_103": 'level=fatal msg="Error: bootstrap data already found and encrypted with different token"',
    "K3S_104": (
        'level=info msg="Waiting to retrieve agent configuration; server is not ready: Node '
        'password rejected, duplicate hostname"'
    ),
    "K3S_105": (
        'level=info msg="Waiting to retrieve agent configuration; server is not ready: '
        'https://192.0.2.1:6443/v1-k3s/serving-kubelet.crt: 401 Unauthorized"'
    ),
    "K3S_107": (
        'E1121 run.go:72] "command failed" err="failed to validate kubelet configuration, error: '
        'kubelet is configured to not run on a host using cgroup v1"'
    ),
    "K3S_108": 'level=fatal msg="Error: failed to find memory cgroup (v2)"',
    "K3S_109": ('level=fatal msg="Error: starting kubernetes: listen tcp :6443: bind: address already in use"'),
    "K3S_110": (
        'level=error msg="tls: failed to verify certificate: x509: certificate has expired or is '
        'not yet valid: current time"'
    ),
    "K3S_111": ('level=fatal msg="extracting data: write /var/lib/rancher/k3s/data/x: no space left on device"'),
    "K3S_112": 'E1121 kubelet.go:1728] "Failed to start cAdvisor" err="inotify_init: too many open files"',
    "K3S_116": (
        'E1121 "Failed to pull image" err="failed to pull and unpack image \\"docker.io/rancher/mirrored-pause:3.6\\""'
    ),
    "K3S_119": (
        'level=info msg="Waiting to retrieve agent configuration; server is not ready: failed to '
        'get CA certs: Get \\"https://127.0.0.1:6444/cacerts\\": dial tcp 192.0.2.1:6443: connect: connect'
        'ion refused"'
    ),
    "K3S_120": (
        "failed to create containerd task: OCI runtime create failed: runc: can't set oom_score_adj: permission denied"
    ),
}


@pytest.mark.parametrize("code", LINES)
def test_a_line_leads_to_its_cause(code: str) -> None:
    found = diagnosis.diagnose("noise\n" + LINES[code] + "\nnoise")
    assert found is not None
    known, cause = found
    assert known.code == code
    assert "{" not in cause
    assert known.remedy


def test_the_telling_cause_comes_before_its_consequence() -> None:
    found = diagnosis.diagnose(LINES["K3S_102"] + "\n" + LINES["K3S_119"])
    assert found is not None
    assert found[0].code == "K3S_102"


@pytest.mark.parametrize(
    "line",
    [
        "",
        'I1121 server.go:893] "Failed to ApplyOOMScoreAdj" err="write /proc/self/oom_score_adj: permission denied"',
        'level=error msg="Failed to set sysctl: open /proc/sys/net/netfilter/nf_conntrack_max: permission denied"',
    ],
)
def test_harmless_lines_lead_nowhere(line: str) -> None:
    assert diagnosis.diagnose(line) is None


def test_codes_are_unique_and_expressions_compile() -> None:
    codes = [known.code for known in diagnosis.CAUSES]
    assert len(set(codes)) == len(codes)
    for known in diagnosis.CAUSES:
        re.compile(known.pattern)


class Fake:
    """A host: systemctl and journalctl as they answer, and an API that says what it is told to."""

    def __init__(self, journal: str = "", restarts: int = 0, ready_after: int = 10**6) -> None:
        self.journal, self.restarts, self.ready_after, self.asked, self.now = journal, restarts, ready_after, 0, 0.0

    #: How much later than the node the unit is ready.
    late = 0

    def run_command(self, command: list[str], **_more: Any) -> tuple[int, str, str]:
        if command[0] == "journalctl":
            return 0, self.journal, ""
        state = "active" if self.asked > self.ready_after + self.late else "activating"
        return 0, f"ActiveState={state}\nNRestarts={self.restarts}\n", ""

    def healthy(self) -> bool:
        return True

    def node_ready(self, _name: str) -> tuple[bool, str]:
        self.asked += 1
        return self.asked > self.ready_after, "not yet"

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def poll(self, timeout: int = 60) -> float:
        wait = Wait("agent", "n", 0, self.run_command, api=self)
        return float(poll(wait, timeout, clock=lambda: self.now, sleep=self.sleep))


def test_the_wait_ends_when_the_node_is_ready() -> None:
    assert Fake(ready_after=10).poll() == pytest.approx(3.0)


def test_the_readiness_of_an_earlier_start_does_not_count() -> None:
    fake = Fake(ready_after=0)
    fake.late = 10
    assert fake.poll() == pytest.approx(3.0)


def test_the_deadline_brings_the_diagnosis() -> None:
    fake = Fake(journal=LINES["K3S_119"])
    with pytest.raises(K3sError, match="K3S_119 n: the server cannot be reached: connection refused"):
        fake.poll(20)
    assert 20 <= fake.now < 21


def test_a_cause_that_waiting_cannot_mend_ends_the_wait_early() -> None:
    start = 'time="x" level=info msg="Starting k3s agent v1.35.0+k3s3"\n'
    fake = Fake(journal=(start + LINES["K3S_101"] + "\n") * 2 + start, restarts=3)
    with pytest.raises(K3sError, match="K3S_101 n: k3s does not know the key tls-san"):
        fake.poll(300)
    assert fake.now < 10


def test_one_failed_start_is_not_enough() -> None:
    start = 'time="x" level=info msg="Starting k3s agent v1.35.0+k3s3"\n'
    fake = Fake(journal=start + LINES["K3S_101"] + "\n" + start, restarts=3, ready_after=100)
    assert fake.poll(300) == pytest.approx(30.0)


def test_what_an_earlier_life_of_the_host_said_is_not_told() -> None:
    start = 'time="x" level=info msg="Starting k3s agent v1.35.0+k3s3"\n'
    old = (start + LINES["K3S_102"] + "\n") * 3
    with pytest.raises(K3sError, match="K3S_119"):
        Fake(journal=old + (start + LINES["K3S_119"] + "\n") * 2).poll(1)


def test_a_cause_that_may_pass_does_not() -> None:
    fake = Fake(journal=LINES["K3S_119"], restarts=9, ready_after=100)
    assert fake.poll(300) == pytest.approx(30.0)


def test_an_unknown_cause_shows_the_last_words() -> None:
    with pytest.raises(K3sError, match=r"(?s)K3S_100 .*level=error msg=strange"):
        Fake(journal="level=info msg=fine\nlevel=error msg=strange\n").poll(1)
