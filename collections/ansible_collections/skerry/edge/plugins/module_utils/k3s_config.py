"""What k3s accepts in config.yaml, and how the role's variables become that file.

Runs on hosts with Python 3.8, so it keeps to the standard library and to that version's syntax.
"""

from __future__ import annotations

import difflib
import json
import re

from ansible_collections.skerry.edge.plugins.module_utils.coded import CodedError

#: Keys that servers and agents know (k3s v1.32 to v1.37, pkg/cli/cmds/agent.go).
COMMON_KEYS = frozenset(
    [
        "airgap-extra-registry",
        "alsologtostderr",
        "bind-address",
        "container-runtime-endpoint",
        "data-dir",
        "debug",
        "default-runtime",
        "disable-default-registry-endpoint",
        "docker",
        "enable-pprof",
        "flannel-cni-conf",
        "flannel-conf",
        "flannel-iface",
        "image-credential-provider-bin-dir",
        "image-credential-provider-config",
        "image-service-endpoint",
        "kube-proxy-arg",
        "kubelet-arg",
        "lb-server-port",
        "log",
        "node-external-dns",
        "node-external-ip",
        "node-internal-dns",
        "node-ip",
        "node-label",
        "node-name",
        "node-taint",
        "nonroot-devices",
        "pause-image",
        "prefer-bundled-bin",
        "private-registry",
        "protect-kernel-defaults",
        "resolv-conf",
        "rootless",
        "selinux",
        "server",
        "snapshotter",
        "token",
        "token-file",
        "v",
        "vmodule",
        "vpn-auth",
        "vpn-auth-file",
        "with-node-id",
    ]
)
#: Keys that an agent knows and a server does not.
AGENT_ONLY_KEYS = frozenset(["disable-apiserver-lb"])
#: Keys that a server knows (pkg/cli/cmds/server.go). On an agent each of them ends the process at once.
SERVER_ONLY_KEYS = frozenset(
    [
        "advertise-address",
        "advertise-port",
        "agent-token",
        "agent-token-file",
        "apiserver-bind-address",
        "apiserver-port",
        "cluster-cidr",
        "cluster-dns",
        "cluster-domain",
        "cluster-init",
        "datastore-cafile",
        "datastore-certfile",
        "datastore-endpoint",
        "datastore-keyfile",
        "default-local-storage-path",
        "disable",
        "disable-apiserver",
        "disable-cloud-controller",
        "disable-controller-manager",
        "disable-etcd",
        "disable-helm-controller",
        "disable-kube-proxy",
        "disable-network-policy",
        "disable-scheduler",
        "egress-selector-mode",
        "embedded-registry",
        "etcd-arg",
        "etcd-disable-snapshots",
        "etcd-expose-metrics",
        "etcd-s3",
        "etcd-s3-access-key",
        "etcd-s3-bucket",
        "etcd-s3-bucket-lookup-type",
        "etcd-s3-config-secret",
        "etcd-s3-endpoint",
        "etcd-s3-endpoint-ca",
        "etcd-s3-folder",
        "etcd-s3-insecure",
        "etcd-s3-proxy",
        "etcd-s3-region",
        "etcd-s3-retention",
        "etcd-s3-secret-key",
        "etcd-s3-session-token",
        "etcd-s3-skip-ssl-verify",
        "etcd-s3-timeout",
        "etcd-snapshot-compress",
        "etcd-snapshot-dir",
        "etcd-snapshot-name",
        "etcd-snapshot-reconcile-interval",
        "etcd-snapshot-retention",
        "etcd-snapshot-schedule-cron",
        "flannel-backend",
        "flannel-external-ip",
        "flannel-ipv6-masq",
        "helm-controller-arg",
        "helm-job-image",
        "https-listen-port",
        "kine-tls",
        "kube-apiserver-arg",
        "kube-cloud-controller-manager-arg",
        "kube-controller-manager-arg",
        "kube-scheduler-arg",
        "secrets-encryption",
        "secrets-encryption-provider",
        "service-cidr",
        "service-node-port-range",
        "servicelb-namespace",
        "supervisor-metrics",
        "supervisor-port",
        "system-default-registry",
        "tls-san",
        "tls-san-security",
        "write-kubeconfig",
        "write-kubeconfig-group",
        "write-kubeconfig-mode",
        "write-kubeconfig-name",
    ]
)
#: Keys that the role itself sets, and the variable that a person sets instead.
ROLE_KEYS = {
    "token": "k3s_token",
    "token-file": "k3s_token",
    "agent-token": "k3s_agent_token",
    "agent-token-file": "k3s_agent_token",
    "server": "k3s_api_endpoint",
    "cluster-init": "the number of hosts in the group of the servers",
    "node-name": "k3s_node_name",
    "node-ip": "k3s_node_ip",
    "node-label": "k3s_node_labels",
    "node-taint": "k3s_node_taints",
    "resolv-conf": "k3s_resolv_conf",
    "secrets-encryption": "k3s_secrets_encryption",
    "data-dir": "nothing: the data directory is fixed",
    "write-kubeconfig": "k3s_kubeconfig_dir",
    "cluster-reset": "playbooks/restore.yml",
    "cluster-reset-restore-path": "playbooks/restore.yml",
}
#: Keys that matter only when a node registers: a change of them restarts nothing, the API has the last word.
REGISTRATION_KEYS = ("node-label", "node-taint")

#: Labels below kubernetes.io and k8s.io that a kubelet may set on its own node (NodeRestriction); any other stops k3s.
_KUBELET_LABELS = frozenset(
    [
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
    ]
)
_KUBELET_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_LABEL_VALUE = re.compile(r"^(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")
_LABEL_NAME = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")
_DNS_NAME = re.compile(r"^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$")
_TAINT = re.compile(r"^(?P<key>[^=:]+)(?:=(?P<value>[^:]*))?:(?P<effect>NoSchedule|PreferNoSchedule|NoExecute)$")
_VERSION = re.compile(r"^v1\.(?P<minor>\d+)\.(?P<patch>\d+)(?:-[0-9A-Za-z.]+)?\+k3s\d+$")
_SECURE_TOKEN = re.compile(r"^K10(?P<hash>[0-9a-f]{64})::(?P<user>[^:]+):(?P<password>.+)$")
#: The first lines with containerd 2, whose configuration format 3 our drop-ins are written in.
OLDEST_MINOR = 32


class K3sError(CodedError):
    """What is wrong here, and what to do."""


def minor_of(version):
    """The minor of a version such as v1.36.5+k3s1. Raises K3S_004 on anything else and on lines that are too old."""
    match = _VERSION.match(version)
    if not match:
        raise K3sError(
            "K3S_004",
            f"k3s_version {version!r} is not a k3s version",
            "write it as upstream tags it, e.g. v1.36.5+k3s1",
        )
    minor = int(match.group("minor"))
    if minor < OLDEST_MINOR:
        raise K3sError(
            "K3S_004",
            f"k3s {version} is older than v1.{OLDEST_MINOR}",
            f"choose v1.{OLDEST_MINOR} or newer in k3s_version",
        )
    return minor


def check_keys(role, given):
    """Compare a person's keys with what k3s knows for the role. Raises K3S_001, K3S_002, K3S_003, one for all keys."""
    known = COMMON_KEYS | (SERVER_ONLY_KEYS if role == "server" else AGENT_ONLY_KEYS)
    bare = {key: key[:-1] if key.endswith("+") else key for key in given}
    own = sorted(key for key in bare.values() if key in ROLE_KEYS)
    if own:
        raise K3sError(
            "K3S_003",
            "the role sets {} itself".format(", ".join(own)),
            "; ".join(f"instead of {key} set {ROLE_KEYS[key]}" for key in own),
        )
    unknown = sorted(set(bare.values()) - known)
    misplaced = [key for key in unknown if role == "agent" and key in SERVER_ONLY_KEYS]
    if misplaced:
        raise K3sError(
            "K3S_002",
            "{} are for servers only; an agent ends at once when it finds them".format(", ".join(misplaced)),
            "move them to k3s_server_config",
        )
    if unknown:
        hints = []
        for key in unknown:
            near = difflib.get_close_matches(key, sorted(known), 1)
            hints.append(f"{key} (did you mean {near[0]}?)" if near else key)
        raise K3sError(
            "K3S_001",
            "k3s {} does not know {}".format(role, ", ".join(hints)),
            f"correct or remove the key in k3s_{role}_config or k3s_node_config",
        )


def check_name(name):
    """Refuse a node name that Kubernetes would refuse (K3S_013)."""
    if len(name) > 253 or not _DNS_NAME.match(name):
        raise K3sError(
            "K3S_013",
            f"{name!r} cannot be the name of a node",
            "set k3s_node_name to lower-case letters, digits, '-' and '.'",
        )


def check_labels(labels):
    """Refuse labels that the API would refuse (K3S_014)."""
    for key, value in labels.items():
        prefix, slash, name = key.rpartition("/")
        if (slash and not (len(prefix) <= 253 and _DNS_NAME.match(prefix))) or not _LABEL_NAME.match(name):
            raise K3sError("K3S_014", f"{key!r} cannot be the key of a label", "correct it in k3s_node_labels")
        if not _LABEL_VALUE.match(value):
            raise K3sError(
                "K3S_014",
                f"{value!r} cannot be the value of label {key}",
                "use up to 63 letters, digits, '-', '_' and '.', a letter or digit at both ends",
            )


def parse_taint(text):
    """``key=value:Effect`` as the API has it: {key, value, effect}. Raises K3S_015."""
    match = _TAINT.match(text)
    if not match:
        raise K3sError(
            "K3S_015",
            f"{text!r} is no taint",
            "write key=value:Effect with NoSchedule, PreferNoSchedule or NoExecute",
        )
    taint = {"key": match.group("key"), "effect": match.group("effect")}
    if match.group("value"):
        taint["value"] = match.group("value")
    return taint


def kubelet_may_set(key):
    """Whether k3s accepts the label in config.yaml; the others go through the API."""
    prefix, slash, _name = key.rpartition("/")
    if not slash or key in _KUBELET_LABELS:
        return True
    if any(prefix == allowed or prefix.endswith("." + allowed) for allowed in _KUBELET_PREFIXES):
        return True
    return not any(prefix == area or prefix.endswith("." + area) for area in ("kubernetes.io", "k8s.io"))


def password_of(token):
    """The password inside a token of either form: K10<hash>::<user>:<password>, or the password itself."""
    match = _SECURE_TOKEN.match(token.strip())
    return match.group("password") if match else token.strip()


def check_token(name, token):
    """Refuse a token that k3s would misread (K3S_009); an empty one is fine."""
    if not token:
        return
    secure = _SECURE_TOKEN.match(token)
    if (token.startswith("K10") and "::" in token and not secure) or re.search(r"\s", token) or len(token) < 16:
        raise K3sError(
            "K3S_009",
            f"{name} is neither K10<hash>::<user>:<password> nor a password of 16 characters or more without blanks",
            "make one with: openssl rand -hex 32",
        )


def secure_token(ca_hash, user, password):
    """The form that lets a joining host check the server's CA before it says anything."""
    return f"K10{ca_hash}::{user}:{password}"


#: Characters that JSON lets stand and YAML does not, or folds.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def _quoted(value):
    text = json.dumps(str(value), ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def to_yaml(config):
    """A flat mapping as YAML, keys sorted. Strings are quoted as JSON does it, which YAML reads alike."""
    lines = []
    for key in sorted(config):
        value = config[key]
        if isinstance(value, (list, tuple)):
            lines.append(f"{key}:")
            lines.extend(f"  - {_quoted(item)}" for item in value)
        elif isinstance(value, (bool, int)):
            lines.append(f"{key}: {json.dumps(value)}")
        else:
            lines.append(f"{key}: {_quoted(value)}")
    return "\n".join(lines) + "\n"


def from_yaml(text):
    """Read back what :func:`to_yaml` wrote; lines of another hand are skipped."""
    config, current = {}, None
    for line in text.splitlines():
        match = re.match(r"^([a-z0-9+-]+):(?:\s+(.*))?$", line)
        item = re.match(r"^\s+- (.*)$", line)
        try:
            if match and match.group(2):
                config[match.group(1)] = json.loads(match.group(2))
            elif match:
                current = config.setdefault(match.group(1), [])
            elif item and current is not None:
                current.append(json.loads(item.group(1)))
        except ValueError:
            continue
    return config


def without_empty(config):
    """Drop keys that say nothing: None, '' and empty lists. False and 0 stay."""
    return {key: value for key, value in config.items() if value is not None and value not in ("", [])}
