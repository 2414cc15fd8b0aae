"""Faults for `skerry doctor`: each breaks something real on a small k3s cluster, and mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

AGENT = "systemctl restart --no-block k3s-agent"
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: default}}
spec:
  automountServiceAccountToken: false
  nodeName: agent
  {spec}
  containers: [{{name: main, image: "{image}", imagePullPolicy: IfNotPresent, {container}}}]
"""
CONFIG, TOKEN, BINARY = "/etc/rancher/k3s/config.yaml", "/etc/rancher/k3s/token", "/usr/local/bin/k3s"
PAUSE = "rancher/mirrored-pause:3.6"


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        code, where: what the doctor must name first.
        on: host that the scripts run on (``controller``: see `breaks`).
        breaks, mends: shell scripts, run as root.
        objects: manifest applied to the cluster, deleted afterwards.
        seconds: until it must have been named.
        quick: part of every run; the others of the whole matrix.
    """

    name: str
    code: str
    where: str
    on: str = "agent"
    breaks: str = ""
    mends: str = ""
    objects: str = ""
    seconds: float = 30.0
    quick: bool = False


def kept(path: str, change: str) -> dict[str, Any]:
    """Scripts that change a file of the agent and put it back, with a restart of k3s after each."""
    return {"breaks": f"cp -p {path} /root/kept; {change}; {AGENT}", "mends": f"mv /root/kept {path}; {AGENT}"}


def pod(name: str, container: str = "", spec: str = "", image: str = PAUSE) -> str:
    """A manifest of a pod on the agent."""
    return POD.format(name=name, spec=spec, image=image, container=container)


FAULTS = (
    Fault(
        "an agent is stopped", "CLUSTER_205", "agent", quick=True,
        breaks="systemctl stop k3s-agent", mends="systemctl start --no-block k3s-agent",
    ),
    Fault(
        "the token is wrong", "CLUSTER_208", "agent", quick=True,
        **kept(TOKEN, f"sed -i 's/::node:.*/::node:0123456789abcdef0123/' {TOKEN}"),
    ),
    Fault(
        "the token is another cluster's", "CLUSTER_217", "agent",
        **kept(TOKEN, f"sed -i 's/^K10......../K10deadbeef/' {TOKEN}"),
    ),
    Fault(
        "the disk is full", "STORAGE_201", "agent", quick=True, seconds=60,
        breaks="systemctl stop k3s-agent; mount -t tmpfs -o size=64m none /var/lib/kubelet;"
        " systemctl start --no-block k3s-agent; dd if=/dev/zero of=/var/lib/kubelet/fill bs=1M 2>/dev/null || true",
        mends="systemctl stop k3s-agent; umount -R /var/lib/kubelet; systemctl start --no-block k3s-agent",
    ),
    Fault(
        "name resolution is broken", "CLUSTER_213", "agent", quick=True,
        breaks="cp /etc/resolv.conf /root/resolv; echo nameserver 192.0.2.53 > /etc/resolv.conf",
        mends="cat /root/resolv > /etc/resolv.conf",
    ),
    Fault(
        "the server is killed", "CLUSTER_204", "server", "server", quick=True,
        breaks="systemctl kill -s KILL k3s; systemctl stop k3s", mends="systemctl start --no-block k3s",
    ),
    Fault(
        "a program took the API's port", "CLUSTER_216", "server", "server",
        breaks="systemctl stop k3s; systemd-run --quiet --unit=thief python3 -m http.server 6443; sleep 1;"
        " systemctl start --no-block k3s",
        mends="systemctl stop thief; systemctl restart --no-block k3s",
    ),
    Fault(
        "a firewall is between", "CLUSTER_209", "agent",
        breaks="iptables -I OUTPUT -p tcp --dport 6443 -j DROP", mends="iptables -D OUTPUT -p tcp --dport 6443 -j DROP",
    ),
    Fault(
        "the agent has a key that k3s does not know", "CLUSTER_101", "agent",
        **kept(CONFIG, f"echo 'no-such-key: 1' >> {CONFIG}"),
    ),
    Fault(
        "the host was made anew", "CLUSTER_104", "agent", seconds=60,
        **kept("/etc/rancher/node/password", "echo 00112233445566778899 > /etc/rancher/node/password"),
    ),
    Fault(
        "the k3s program is damaged", "CLUSTER_206", "agent",
        breaks=f"mv {BINARY} {BINARY}.good; head -c 4096 {BINARY}.good > {BINARY}; chmod 755 {BINARY}; {AGENT}",
        mends=f"mv {BINARY}.good {BINARY}; {AGENT}",
    ),
    Fault(
        "a certificate has expired", "CLUSTER_215", "agent",
        breaks="cd /var/lib/rancher/k3s/agent; cp -p serving-kubelet.crt /root/serving; openssl req -x509"
        " -newkey rsa:2048 -nodes -keyout /dev/null -subj /CN=old -not_before 20200101000000Z"
        " -not_after 20210101000000Z -out serving-kubelet.crt 2>/dev/null",
        mends="mv /root/serving /var/lib/rancher/k3s/agent/serving-kubelet.crt",
    ),
    Fault(
        "the host is frozen", "CLUSTER_201", "agent", "controller", seconds=90,
        breaks="docker pause {host}", mends="docker unpause {host}",
    ),
    Fault(
        "crun is broken", "RUNTIME_201", "agent",
        breaks=f"printf 'no program' > /usr/local/bin/crun; chmod 755 /usr/local/bin/crun; {AGENT}",
        mends=f"rm /usr/local/bin/crun; {AGENT}",
    ),
    Fault(
        "a shim is gone", "RUNTIME_202", "agent",
        breaks="f=/usr/local/bin/containerd-shim-spin-v2; echo '#!/bin/true' > $f; chmod 755 $f;"
        " systemctl restart k3s-agent; rm $f",
        mends=AGENT,
    ),
    Fault(
        "a handler is missing", "RUNTIME_203", "agent",
        objects="{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: ghost}, handler: ghost}\n---"
        + pod("haunted", spec="runtimeClassName: ghost"),
    ),
    Fault(
        "an image is missing", "RUNTIME_204", "registry.invalid/none:1", seconds=60,
        objects=pod("no-image", image="registry.invalid/none:1"),
    ),
    Fault(
        "a command does not exist", "RUNTIME_212", "default/no-command",
        objects=pod("no-command", "command: [/nonexistent]"),
    ),
    Fault(
        "a Secret is missing", "CLUSTER_240", "default/no-secret",
        objects=pod("no-secret", "envFrom: [{secretRef: {name: absent}}]"),
    ),
    Fault(
        "a volume cannot be mounted", "STORAGE_216", "agent",
        objects=pod("no-volume", "volumeMounts: [{name: v, mountPath: /v}]",
                    "volumes: [{name: v, configMap: {name: absent}}]"),
    ),
    Fault(
        "a node is under pressure", "CLUSTER_231", "agent", seconds=90,
        breaks="mkdir -p /etc/rancher/k3s/config.yaml.d;"
        " echo 'kubelet-arg+: [\"eviction-hard=memory.available<95%\"]' > /etc/rancher/k3s/config.yaml.d/pressure.yaml;"
        f" {AGENT}",
        mends=f"rm -r /etc/rancher/k3s/config.yaml.d; {AGENT}",
    ),
    Fault(
        "the kubelet refuses cgroup v1", "CLUSTER_107", "agent", **kept(CONFIG, f"sed -i /cgroupv1/d {CONFIG}"),
    ),
    Fault(
        "Docker is stopped", "RUNTIME_207", "agent", seconds=60,
        breaks="export DEBIAN_FRONTEND=noninteractive; apt-get -qq update; apt-get -qq install -y"
        " --no-install-recommends docker.io >/dev/null 2>&1; systemctl stop docker.socket docker",
        mends="systemctl disable --now docker.socket docker containerd; apt-get -qq purge -y docker.io >/dev/null 2>&1",
    ),
)  # fmt: skip
