"""The host's side as the role leaves it: it answers, and a workload that it is given runs."""

from __future__ import annotations

import base64
import hashlib
import json
import sys

import pytest

from skerry import paths

sys.path.insert(0, str(paths.root() / "collections"))
from ansible_collections.skerry.edge.plugins.module_utils.wasm_runtimes import (  # type: ignore[import-not-found]
    EXIT_CODE,
    OUTPUT,
    SPEAKING_MODULE,
)

from skerry.deploy.desired import revision
from skerry.deploy.exchange import PROTOCOL
from skerry.deploy.model import Limits

SUBMITTED = {"owner": "molecule", "names": ["molecule-job"], "prune": False}
DIGEST = hashlib.sha256(SPEAKING_MODULE).hexdigest()


def talk(host, *messages):
    """What the host's side answers to some requests."""
    lines = "\n".join(json.dumps(one) for one in messages)
    text = base64.b64encode(lines.encode()).decode()
    said = host.check_output(f"echo {text} | base64 -d | /usr/local/sbin/skerry-host serve")
    return [json.loads(line) for line in said.splitlines()]


def test_it_says_what_it_is(host):
    [hello] = talk(host)
    assert hello["protocol"] == PROTOCOL
    assert hello["host"]["arch"] == host.check_output("uname -m")
    assert hello["host"]["facts"]["wasm_runtime"]


def test_nobody_else_may_read_its_state(host):
    revisions = host.file("/var/lib/skerry/workloads")
    assert not revisions.exists or host.check_output("stat -c %U /var/lib/skerry") == "root"


@pytest.fixture
def job(host):
    """A job of one small module, taken away afterwards."""
    runtime = json.loads(host.file("/etc/ansible/facts.d/skerry.fact").content_string)["wasm_runtime"]["runtimes"]
    entry = runtime.get("wasmtime") or {}
    if not entry.get("proved"):
        pytest.skip(f"wasmtime is not on this host: {entry.get('error', 'the role wasm_runtime did not install it')}")
    text = base64.b64encode(SPEAKING_MODULE).decode()
    place = f"/var/lib/skerry/store/{DIGEST}"
    host.check_output(f"mkdir -p /var/lib/skerry/store && echo {text} | base64 -d > {place} && chmod 444 {place}")
    found = {
        "format": 1, "name": "molecule-job", "owner": "molecule", "kind": "job", "rung": "process",
        "runtime": {"name": "wasmtime", "version": entry["version"], "command": entry["command"]},
        "module": {"digest": DIGEST, "size": len(SPEAKING_MODULE), "name": "speaking", "form": "core"},
        "args": [], "env": {}, "secrets": [], "stdin": None, "directories": [], "files": [], "network": False,
        "limits": Limits().model_dump(), "restart": "never", "readiness": None, "schedule": None,
    }  # fmt: skip
    found["revision"] = revision(found)
    yield found
    talk(host, {"op": "remove", "names": ["molecule-job"]})


def test_a_job_runs_and_its_end_is_known(host, job, support):
    apply = {"op": "apply", "workloads": [job], "secrets": {}, **SUBMITTED}
    results = [one["result"]["action"] for one in talk(host, apply, apply) if "result" in one]
    assert results == ["created", "unchanged"]
    runs = "/var/lib/skerry/workloads/molecule-job/runs"
    host.check_output(f"for i in $(seq 100); do test -e {runs} && break; sleep 0.2; done; test -e {runs}")
    [row] = next(one["workloads"] for one in talk(host, {"op": "status"}) if "workloads" in one)
    assert row["last"]["exit_code"] == EXIT_CODE
    said = [one["line"] for one in talk(host, {"op": "logs", "name": "molecule-job"}) if "line" in one]
    assert OUTPUT.strip() in said
    support.ran(host, "workload", "ran a job as a systemd unit")


def test_nothing_is_left(host, job):
    talk(host, {"op": "apply", "workloads": [job], "secrets": {}, **SUBMITTED})
    talk(host, {"op": "remove", "names": ["molecule-job"]})
    assert not host.run("ls /etc/systemd/system/skerry-molecule-job* /var/lib/skerry/workloads/molecule-job").stdout
