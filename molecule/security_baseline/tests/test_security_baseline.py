"""The baseline on a real k3s: pods are refused, networks are closed, Secrets are encrypted, changes are logged."""

from __future__ import annotations

import base64
import json
import shlex
import sys
import time

import pytest
from shared_cluster import KUBECTL, SERVER

from skerry import paths
from skerry.images import write_image

sys.path.insert(0, str(paths.root() / "collections"))
from ansible_collections.skerry.edge.plugins.module_utils.wasm_runtimes import (
    OUTPUT,
    SPEAKING_MODULE,
)

pytestmark = pytest.mark.usefixtures("k3s_server")

SPACE = "skerry-workloads"
PAUSE = "docker.io/rancher/mirrored-pause:3.6"
LISTENER = "skerry-test-listener"
DATA = "/var/lib/rancher/k3s/server"


def kubectl(host, words, given=None):
    """(exit code, output and errors) of kubectl; ``given`` is an object on its standard input."""
    command = f"{KUBECTL} {words}"
    done = host.run(f"printf %s {shlex.quote(json.dumps(given))} | {command}" if given else command)
    return done.rc, done.stdout + done.stderr


def pod(name, space, **security):
    container = {"name": "main", "image": PAUSE, "imagePullPolicy": "Never",
                 "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, **security}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": space},
            "spec": {"securityContext": {"runAsNonRoot": True, "runAsUser": 65534,
                                         "seccompProfile": {"type": "RuntimeDefault"}},
                     "nodeSelector": {"kubernetes.io/hostname": SERVER}, "tolerations": [{"operator": "Exists"}],
                     "terminationGracePeriodSeconds": 0, "containers": [container]}}


def test_a_root_pod_is_refused_and_a_modest_one_runs(host, support):
    code, said = kubectl(host, "create -f -", pod("greedy", SPACE, runAsUser=0, runAsNonRoot=False))
    assert code != 0
    assert "violates PodSecurity" in said
    with_pod(host, "modest", SPACE)
    kubectl(host, f"-n {SPACE} delete pod modest --wait=false")
    support.ran(host, "security baseline", "root pod refused, restricted pod ran")


def test_a_wasm_module_runs_there_as_nobody(host, tmp_path):
    if "crun-wasm" not in kubectl(host, "get runtimeclasses -o name")[1]:
        pytest.skip("no host of this cluster proved the handler crun-wasm")
    image = "docker.io/skerry/probe:1"
    write_image(tmp_path / "probe.tar", image, {"/probe.wasm": SPEAKING_MODULE}, ["/probe.wasm"])
    text = base64.b64encode((tmp_path / "probe.tar").read_bytes()).decode()
    host.check_output(f"echo {text} | base64 -d | k3s ctr --namespace k8s.io images import -")
    item = pod("wasm", SPACE)
    item["metadata"]["annotations"] = {"module.wasm.image/variant": "compat"}
    item["spec"].update(runtimeClassName="crun-wasm", restartPolicy="Never")
    item["spec"]["containers"][0].update(image=image)
    try:
        code, said = kubectl(host, "create -f -", item)
        assert code == 0, said
        done = f"-n {SPACE} wait --for=jsonpath={{.status.phase}}=Succeeded pod/wasm --timeout=60s"
        assert kubectl(host, done)[0] == 0, kubectl(host, f"-n {SPACE} describe pod wasm")[1]
        assert OUTPUT.strip() in kubectl(host, f"-n {SPACE} logs wasm")[1]
    finally:
        kubectl(host, f"-n {SPACE} delete pod wasm --wait=false")


def with_pod(host, name, space):
    """A running pod; returns (its address, the process that holds its network)."""
    code, said = kubectl(host, "apply -f -", pod(name, space))
    assert code == 0, said
    code, said = kubectl(host, f"-n {space} wait --for=condition=Ready pod/{name} --timeout=60s")
    assert code == 0, said
    address = kubectl(host, f"-n {space} get pod {name} -o jsonpath={{.status.podIP}}")[1]
    sandbox = host.check_output(f"k3s crictl pods --name ^{name}$ --namespace {space} -q").split()[0]
    state = json.loads(host.check_output(f"k3s crictl inspectp {sandbox}"))
    return address, state["info"]["pid"]


def reaches(host, pid, address):
    """Whether a connection from the network of process ``pid`` to port 8080 of ``address`` comes about."""
    code = f"import socket; socket.create_connection(({address!r}, 8080), timeout=2)"
    return host.run(f"nsenter -t {pid} -n python3 -c {shlex.quote(code)}").rc == 0


def test_the_network_of_the_namespace_is_closed_to_others(host):
    address, inside = with_pod(host, "inside", SPACE)
    _, neighbour = with_pod(host, "neighbour", SPACE)
    _, stranger = with_pod(host, "stranger", "default")
    try:
        host.check_output(
            f"systemd-run --quiet --collect --unit {LISTENER} nsenter -t {inside} -n python3 -m http.server 8080"
        )
        until = time.monotonic() + 30
        while not reaches(host, neighbour, address) and time.monotonic() < until:
            time.sleep(0.5)
        assert reaches(host, neighbour, address), "same-namespace is an exception"
        while reaches(host, stranger, address) and time.monotonic() < until:
            time.sleep(0.5)
        assert not reaches(host, stranger, address), "a pod of another namespace came through"
    finally:
        host.run(f"systemctl stop {LISTENER}")
        kubectl(host, f"-n {SPACE} delete pod inside neighbour --wait=false")
        kubectl(host, "-n default delete pod stranger --wait=false")


def test_secrets_are_encrypted_in_the_datastore(host):
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "proof", "namespace": SPACE},
              "stringData": {"password": "plain-to-see-in-the-datastore"}}
    assert kubectl(host, "apply -f -", secret)[0] == 0
    try:
        assert "Encryption Status: Enabled" in host.check_output("k3s secrets-encrypt status")
        found = host.run(f"grep -rlF plain-to-see-in-the-datastore {DATA}/db")
        assert found.rc == 1, found.stdout
    finally:
        kubectl(host, f"-n {SPACE} delete secret proof")


def test_the_audit_log_says_who_and_what_and_no_secret(host):
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "logged", "namespace": SPACE},
              "stringData": {"password": "not-in-any-log"}}
    assert kubectl(host, "create -f -", secret)[0] == 0
    assert kubectl(host, f"-n {SPACE} delete secret logged")[0] == 0
    log = f"{DATA}/logs/audit.log"
    until = time.monotonic() + 45  # the log is written in batches
    while host.run(f"grep -q '\"verb\":\"delete\".*\"name\":\"logged\"' {log}").rc and time.monotonic() < until:
        time.sleep(1)
    events = [json.loads(line) for line in host.check_output(f"grep -F logged {log}").splitlines()]
    verbs = {event["verb"] for event in events if event["objectRef"].get("name") == "logged"}
    assert {"create", "delete"} <= verbs | {event["verb"] for event in events}
    assert all(event["user"]["username"] for event in events)
    assert host.run(f"grep -F -e not-in-any-log -e bm90LWluLWFueS1sb2c {log}").rc == 1
    assert host.file(log).mode == 0o600
