"""Wasm runtimes of a real cluster: proved by pods, and put right when they are broken in each way that hosts break."""

from __future__ import annotations

import json

import pytest
from shared_cluster import KUBECTL, SERVER, apply, facts
from shared_hosts import run

CONTAINERD = "/var/lib/rancher/k3s/agent/etc/containerd"
DROP_IN = "/etc/skerry/containerd/crun-wasm.toml"


@pytest.fixture(autouse=True)
def _server_with_k3s_or_reason(host):
    section = facts(host, "k3s")
    if section.get("enabled") is False:
        pytest.skip(section["reason"])
    if host.backend.hostname != SERVER:
        pytest.skip("asked on the server")


def kubectl(host, *words):
    return json.loads(host.check_output(f"{KUBECTL} -o json " + " ".join(words)))


def play(name, *words):
    """Run a playbook of the scenario."""
    done = run(f"molecule/kwasm/{name}", *words, SKERRY_TEST_HOSTS="skerry_servers:skerry_agents")
    assert done.code == 0, done.output[-6000:]
    return done


def proofs(host):
    found = kubectl(host, "-n", "skerry-probe", "get", "configmap", "kwasm-probes")
    return json.loads(found["data"]["proofs"])


def nodes_with_wasm(host):
    items = kubectl(host, "get", "nodes")["items"]
    return {item["metadata"]["name"] for item in items if "skerry.dev/runtime-crun-wasm" in item["metadata"]["labels"]}


def put_right(host, *words):
    """Let the role alone look at what was broken; the runtime of the server's own node must be proved anew."""
    before = int(host.check_output("date +%s"))
    play("alone.yml", *words)
    assert proofs(host)[facts(host, "k3s")["node"] + "/crun-wasm"]["at"] >= before


def test_each_node_with_a_handler_is_proved(host, support):
    assert {name.split("/")[0] for name in proofs(host)} == nodes_with_wasm(host)
    assert facts(host, "k3s")["node"] in nodes_with_wasm(host)
    space = kubectl(host, "get", "namespace", "skerry-probe")
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert kubectl(host, "-n", "skerry-probe", "get", "pods")["items"] == []
    support.ran(host, "kwasm", "native: a wasm pod for each node and RuntimeClass")


def test_a_program_that_is_gone_is_put_right(host, support):
    host.check_output("cp /usr/bin/crun /var/tmp/crun.good && rm /usr/bin/crun")
    put_right(host)
    assert host.run("cmp /usr/bin/crun /var/tmp/crun.good").rc == 0
    support.ran(host, "kwasm", "a runtime that is gone is put right")


@pytest.mark.full
def test_a_handler_that_containerd_lost_is_put_right(host):
    """Somebody removed the drop-in and restarted k3s: the file is as it was noted once it is written again."""
    host.check_output(f"rm {DROP_IN} && systemctl restart k3s")
    put_right(host)
    assert host.file(DROP_IN).exists


@pytest.mark.full
def test_a_broken_program_behind_a_handler_of_another_is_put_right(host, support):
    """The running containerd has a handler of the name with a program that does not exist; the right one is broken."""
    host.check_output(
        "echo broken > /usr/bin/crun && "
        f"sed -i 's#/usr/bin/crun#/usr/bin/nothing#' {DROP_IN} && systemctl restart k3s"
    )
    put_right(host)
    assert host.run("cmp /usr/bin/crun /var/tmp/crun.good").rc == 0
    assert "/usr/bin/crun" in host.file(DROP_IN).content_string
    support.ran(host, "kwasm", "a broken runtime is put right")


def leave_an_operator(host, node):
    """What its installer does: containerd's configuration frozen, shims that it cannot start, the node marked."""
    host.check_output(
        f"mkdir -p /opt/kwasm/bin && cp /bin/true /opt/kwasm/bin/containerd-shim-spin-v2 && "
        f"cp {CONTAINERD}/config.toml {CONTAINERD}/config.toml.tmpl && "
        f"echo '# /opt/kwasm/bin/containerd-shim-spin-v2' >> {CONTAINERD}/config.toml.tmpl && "
        f"{KUBECTL} annotate node {node} kwasm.sh/kwasm-node=true && "
        f"{KUBECTL} label node {node} kwasm.sh/kwasm-provisioned={node}"
    )


def leave_a_manager(host, node):
    """A runtime-class-manager that is dead: its Shim has a finalizer that nobody would ever take away."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "shims.runtime.spinkube.dev"},
        "spec": {
            "group": "runtime.spinkube.dev", "scope": "Cluster", "names": {"kind": "Shim", "plural": "shims"},
            "versions": [{"name": "v1alpha1", "served": True, "storage": True, "schema": schema}],
        },
    }  # fmt: skip
    runtime_class = {
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "wasmtime-spin-v2"},
        "handler": "spin-v2", "scheduling": {"nodeSelector": {"spin-v2": "provisioned"}},
    }  # fmt: skip
    metadata = {"name": "spin-v2", "finalizers": ["rcm.spinkube.dev/finalizer"]}
    shim = {"apiVersion": "runtime.spinkube.dev/v1alpha1", "kind": "Shim", "metadata": metadata}
    for item in (definition, runtime_class, shim):
        apply(host, item)
        if item is definition:
            name = definition["metadata"]["name"]
            host.check_output(f"{KUBECTL} wait --for=condition=Established crd/{name} --timeout=30s")
    host.check_output(
        f"{KUBECTL} label node {node} spin-v2=provisioned && "
        "mkdir -p /opt/rcm/bin && cp /bin/true /opt/rcm/bin/containerd-shim-spin-v2"
    )


@pytest.mark.full
def test_what_former_providers_left_is_cleaned_up(host, support):
    node = facts(host, "k3s")["node"]
    leave_an_operator(host, node)
    leave_a_manager(host, node)
    put_right(host, "-e", "kwasm_timeout=5")
    for path in ("/opt/kwasm", "/opt/rcm", f"{CONTAINERD}/config.toml.tmpl"):
        assert not host.file(path).exists, path
    for kind in ("crd/shims.runtime.spinkube.dev", "runtimeclass/wasmtime-spin-v2"):
        assert host.run(f"{KUBECTL} get {kind}").rc != 0, kind
    metadata = kubectl(host, "get", "node", node)["metadata"]
    left = {**metadata["annotations"], **metadata["labels"]}
    assert not [key for key in left if key.startswith("kwasm.sh/") or key == "spin-v2"]
    support.ran(host, "kwasm", "what the KWasm operator and a runtime-class-manager leave behind is cleaned up")


def test_after_all_that_nothing_is_left_to_do(host):
    done = play("converge.yml")
    assert set(done.changed().values()) == {0}, done.output[-4000:]
