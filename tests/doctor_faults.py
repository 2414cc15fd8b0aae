"""Faults for `skerry doctor`: each breaks something real on a small k3s cluster, and mends it."""

from __future__ import annotations

from dataclasses import dataclass

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
        follows: codes that must stand below it, and not as causes of their own.
        settles: the cluster must be well again before the next fault.
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
    follows: tuple[str, ...] = ()


FAULTS = (
    Fault("an agent is stopped", "CLUSTER_205", "agent", breaks="systemctl stop k3s-agent",
          mends="systemctl start --no-block k3s-agent", quick=True),
    Fault("the token is wrong", "CLUSTER_208", "agent", quick=True,
          breaks="cp -p /etc/rancher/k3s/token /root/token; sed -i 's/::node:.*/::node:0123456789abcdef0123/'"
                 f" /etc/rancher/k3s/token; {AGENT}",
          mends=f"mv /root/token /etc/rancher/k3s/token; {AGENT}"),
    Fault("the token is another cluster's", "CLUSTER_217", "agent",
          breaks="cp -p /etc/rancher/k3s/token /root/token; sed -i 's/^K10......../K10deadbeef/' /etc/rancher/k3s/token;"
                 f" {AGENT}",
          mends=f"mv /root/token /etc/rancher/k3s/token; {AGENT}"),
    Fault("the disk is full", "STORAGE_201", "agent", quick=True, seconds=60,
          breaks="systemctl stop k3s-agent; mount -t tmpfs -o size=64m none /var/lib/kubelet;"
                 " systemctl start --no-block k3s-agent; dd if=/dev/zero of=/var/lib/kubelet/fill bs=1M 2>/dev/null || true",
          mends="systemctl stop k3s-agent; umount -R /var/lib/kubelet; systemctl start --no-block k3s-agent"),
    Fault("name resolution is broken", "CLUSTER_213", "agent", quick=True,
          breaks="cp /etc/resolv.conf /root/resolv; echo nameserver 192.0.2.53 > /etc/resolv.conf",
          mends="cat /root/resolv > /etc/resolv.conf"),
    Fault("the server is killed", "CLUSTER_204", "server", "server", quick=True,
          breaks="systemctl kill -s KILL k3s; systemctl stop k3s", mends="systemctl start --no-block k3s"),
    Fault("a program took the API's port", "CLUSTER_216", "server", "server",
          breaks="systemctl stop k3s; systemd-run --quiet --unit=thief python3 -m http.server 6443; sleep 1;"
                 " systemctl start --no-block k3s",
          mends="systemctl stop thief; systemctl restart --no-block k3s"),
    Fault("a firewall is between", "CLUSTER_209", "agent",
          breaks="iptables -I OUTPUT -p tcp --dport 6443 -j DROP", mends="iptables -D OUTPUT -p tcp --dport 6443 -j DROP"),
    Fault("the agent has a key that k3s does not know", "CLUSTER_101", "agent",
          breaks=f"cp -p /etc/rancher/k3s/config.yaml /root/config; echo 'no-such-key: 1' >> /etc/rancher/k3s/config.yaml; {AGENT}",
          mends=f"mv /root/config /etc/rancher/k3s/config.yaml; {AGENT}"),
    Fault("the host was made anew", "CLUSTER_104", "agent", seconds=60,
          breaks=f"cp -p /etc/rancher/node/password /root/password; echo 00112233445566778899 > /etc/rancher/node/password; {AGENT}",
          mends=f"mv /root/password /etc/rancher/node/password; {AGENT}"),
    Fault("the k3s program is damaged", "CLUSTER_206", "agent",
          breaks=f"mv /usr/local/bin/k3s /usr/local/bin/k3s.good; head -c 4096 /usr/local/bin/k3s.good > /usr/local/bin/k3s;"
                 f" chmod 755 /usr/local/bin/k3s; {AGENT}",
          mends=f"mv /usr/local/bin/k3s.good /usr/local/bin/k3s; {AGENT}"),
    Fault("a certificate has expired", "CLUSTER_215", "agent",
          breaks="cd /var/lib/rancher/k3s/agent; cp -p serving-kubelet.crt /root/serving; openssl req -x509 -newkey rsa:2048"
                 " -nodes -keyout /dev/null -subj /CN=old -not_before 20200101000000Z -not_after 20210101000000Z"
                 " -out serving-kubelet.crt 2>/dev/null",
          mends="mv /root/serving /var/lib/rancher/k3s/agent/serving-kubelet.crt"),
    Fault("the host is frozen", "CLUSTER_201", "agent", "controller", breaks="docker pause {host}",
          mends="docker unpause {host}", seconds=90),
    Fault("crun is broken", "RUNTIME_201", "agent",
          breaks=f"printf 'no program' > /usr/local/bin/crun; chmod 755 /usr/local/bin/crun; {AGENT}",
          mends=f"rm /usr/local/bin/crun; {AGENT}"),
    Fault("a shim is gone", "RUNTIME_202", "agent",
          breaks=f"echo '#!/bin/true' > /usr/local/bin/containerd-shim-spin-v2; chmod 755 /usr/local/bin/containerd-shim-spin-v2;"
                 f" systemctl restart k3s-agent; rm /usr/local/bin/containerd-shim-spin-v2",
          mends=AGENT),
    Fault("a handler is missing", "RUNTIME_203", "agent", objects="""
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: ghost}
handler: ghost
---""" + POD.format(name="haunted", spec="runtimeClassName: ghost", image=PAUSE, container="")),
    Fault("an image is missing", "RUNTIME_204", "registry.invalid/none:1",
          objects=POD.format(name="no-image", spec="", image="registry.invalid/none:1", container=""), seconds=60),
    Fault("a command does not exist", "RUNTIME_212", "default/no-command",
          objects=POD.format(name="no-command", spec="", image=PAUSE, container="command: [/nonexistent]")),
    Fault("a Secret is missing", "CLUSTER_240", "default/no-secret",
          objects=POD.format(name="no-secret", spec="", image=PAUSE,
                             container="envFrom: [{secretRef: {name: absent}}]")),
    Fault("a volume cannot be mounted", "STORAGE_216", "agent",
          objects=POD.format(name="no-volume", spec="volumes: [{name: v, configMap: {name: absent}}]", image=PAUSE,
                             container="volumeMounts: [{name: v, mountPath: /v}]")),
    Fault("a node is under pressure", "CLUSTER_231", "agent", seconds=90,
          breaks="mkdir -p /etc/rancher/k3s/config.yaml.d; echo 'kubelet-arg+: [\"eviction-hard=memory.available<95%\"]'"
                 f" > /etc/rancher/k3s/config.yaml.d/pressure.yaml; {AGENT}",
          mends=f"rm -r /etc/rancher/k3s/config.yaml.d; {AGENT}"),
    Fault("the kubelet refuses cgroup v1", "CLUSTER_107", "agent",
          breaks=f"cp -p /etc/rancher/k3s/config.yaml /root/config; sed -i /cgroupv1/d /etc/rancher/k3s/config.yaml; {AGENT}",
          mends=f"mv /root/config /etc/rancher/k3s/config.yaml; {AGENT}"),
    Fault("Docker is stopped", "RUNTIME_207", "agent",
          breaks="apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends docker.io"
                 " >/dev/null 2>&1; systemctl stop docker.socket docker",
          mends="systemctl disable --now docker.socket docker containerd; apt-get -qq purge -y docker.io >/dev/null 2>&1",
          seconds=90),
)  # fmt: skip
