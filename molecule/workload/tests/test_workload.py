"""The host's side as the role leaves it: it answers, and a workload that it is given runs."""

from __future__ import annotations

import base64
import hashlib
import json
import sys

import pytest
from deploying import STATE

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
from skerry.testing.http_component import component

SUBMITTED = {"owner": "molecule", "names": ["molecule-job"], "prune": False}
#: A port that is asked without anything but what every host has.
ASK = """python3 -c "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:18099/').read().decode())" """


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
    revisions = host.file(f"{STATE}/workloads")
    assert not revisions.exists or host.check_output(f"stat -c %U {STATE}") == "root"


@pytest.fixture
def make(host):
    """Makes desired workloads whose module is in the host's store; those that were made are taken away afterwards."""
    made = []

    def wasmtime():
        runtimes = json.loads(host.file("/etc/ansible/facts.d/skerry.fact").content_string)["wasm_runtime"]["runtimes"]
        entry = runtimes.get("wasmtime") or {}
        if not entry.get("proved"):
            why = entry.get("error", "the role wasm_runtime did not install it")
            pytest.skip(f"wasmtime is not on this host: {why}")
        return {"name": "wasmtime", "version": entry["version"], "command": entry["command"]}

    def desired(name, kind, module, form="core", runtime=None, **more):
        digest = hashlib.sha256(module).hexdigest()
        text, place = base64.b64encode(module).decode(), f"{STATE}/store/{digest}"
        host.check_output(f"mkdir -p {STATE}/store && echo {text} | base64 -d > {place} && chmod 444 {place}")
        found = {
            "format": 1, "name": name, "owner": "molecule", "kind": kind, "rung": "process",
            "runtime": runtime or wasmtime(),
            "module": {"digest": digest, "size": len(module), "name": "module", "form": form},
            "args": [], "env": {}, "secrets": [], "stdin": None, "directories": [], "files": [], "network": False,
            "limits": Limits().model_dump(), "restart": "never", "readiness": None, "schedule": None, **more,
        }  # fmt: skip
        found["revision"] = revision(found)
        made.append(name)
        return found

    yield desired
    talk(host, {"op": "remove", "names": made})


@pytest.fixture
def job(make):
    """A job of one small module."""
    return make("molecule-job", "job", SPEAKING_MODULE)


def test_a_job_runs_and_its_end_is_known(host, job, support):
    apply = {"op": "apply", "workloads": [job], "secrets": {}, **SUBMITTED}
    results = [one["result"]["action"] for one in talk(host, apply, apply) if "result" in one]
    assert results == ["created", "unchanged"]
    runs = f"{STATE}/workloads/molecule-job/runs"
    host.check_output(f"for i in $(seq 100); do test -e {runs} && break; sleep 0.2; done; test -e {runs}")
    [row] = next(one["workloads"] for one in talk(host, {"op": "status"}) if "workloads" in one)
    assert row["last"]["exit_code"] == EXIT_CODE
    said = [one["line"] for one in talk(host, {"op": "logs", "name": "molecule-job"}) if "line" in one]
    assert OUTPUT.strip() in said
    support.ran(host, "workload", "ran a job as a systemd unit")


def test_a_job_runs_in_a_container(host, make, support):
    facts = json.loads(host.file("/etc/ansible/facts.d/skerry.fact").content_string)
    docker, crun = facts.get("docker") or {}, facts["wasm_runtime"]["runtimes"].get("crun") or {}
    if not docker.get("wasm_runtime"):
        pytest.skip(f"Docker of this host runs no WebAssembly: {crun.get('error') or 'it is not there'}")
    runtime = {"name": crun["engine"], "version": crun["engine_version"], "command": docker["wasm_runtime"],
               "annotations": docker["wasm_annotation"], "exit_codes": crun["exit_code_kept"]}
    job = make("molecule-box", "job", SPEAKING_MODULE, rung="container", runtime=runtime)
    apply = {"op": "apply", "workloads": [job], "secrets": {}, **SUBMITTED, "names": ["molecule-box"]}
    results = [one["result"]["action"] for one in talk(host, apply, apply) if "result" in one]
    assert results == ["created", "unchanged"]
    runs = f"{STATE}/workloads/molecule-box/runs"
    host.check_output(f"for i in $(seq 100); do test -e {runs} && break; sleep 0.2; done; test -e {runs}")
    [last] = map(json.loads, host.check_output(f"cat {runs}").splitlines())
    assert (last["exit_code"], last.get("code_lost")) == ((EXIT_CODE, None) if crun["exit_code_kept"] else (None, True))
    said = [one["line"] for one in talk(host, {"op": "logs", "name": "molecule-box"}) if "line" in one]
    assert OUTPUT.strip() in said
    assert not host.check_output("docker ps -aq --filter label=dev.skerry.workload=molecule-box")
    support.ran(host, "workload", "ran a job as a Docker container")


def test_nothing_is_left(host, job):
    talk(host, {"op": "apply", "workloads": [job], "secrets": {}, **SUBMITTED})
    talk(host, {"op": "remove", "names": ["molecule-job"]})
    assert not host.run(f"ls /etc/systemd/system/skerry-molecule-job* {STATE}/workloads/molecule-job").stdout


def test_a_port_is_handed_over(host, make):
    def web(text):
        held = {"ports": [{"port": 18099, "protocol": "http"}], "drain": 5.0, "restart": "always"}
        return make("molecule-web", "service", component(text), "http", **held)

    def applied(desired):
        message = {"op": "apply", "workloads": [desired], "secrets": {}, **SUBMITTED, "names": ["molecule-web"]}
        return [one["result"]["action"] for one in talk(host, message) if "result" in one]

    assert applied(web("one")) == ["created"]
    assert host.check_output(ASK) == "one"
    assert applied(web("two")) == ["changed"]
    assert host.check_output(ASK) == "two"
    units = host.check_output("systemctl list-units --plain --no-legend 'skerry-molecule-web.*@*'")
    assert len(units.splitlines()) == 1
    talk(host, {"op": "remove", "names": ["molecule-web"]})
    assert host.run(ASK).failed
    assert not host.run("ls -d /etc/systemd/system/skerry-molecule-web* /run/skerry/deployed/*molecule-web*").stdout
