"""What guards a server's own data: Secrets encrypted in the datastore, and a log of who changed what.

Runs on hosts with Python 3.8, so it keeps to the standard library and to that version's syntax.
"""

from __future__ import annotations

import re

from ansible_collections.skerry.edge.plugins.module_utils import k3s_host as host
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError, from_yaml

#: Written by k3s when it encrypts; its keys are what the Secrets of the datastore can be read with.
ENCRYPTION = host.DATA_DIR + "/server/cred/encryption-config.json"
AUDIT_POLICY = host.CONFIG_DIR + "/audit-policy.yaml"
AUDIT_LOG = host.DATA_DIR + "/server/logs/audit.log"
#: Megabytes of one file of the log, and how many older ones stay: 40 MB together.
AUDIT_SIZE, AUDIT_BACKUPS = 10, 3


def encrypts():
    """Whether this server's cluster encrypts its Secrets."""
    configured = from_yaml(host.read_text(host.CONFIG) or "").get("secrets-encryption")
    return configured is True or re.search(r'"(?:aescbc|secretbox)"', host.read_text(ENCRYPTION) or "") is not None


def encryption(wanted, joins, joined):
    """Whether the configuration has the key ``secrets-encryption``.

    Args:
        wanted: ``auto``, ``true`` or ``false``.
        joins: whether the host is to join a cluster.
        joined: whether that cluster encrypts, as its server says.

    Raises:
        K3sError: K3S_120 when a cluster that exists would have to become another one.
    """
    if host.has_server_data():
        present = encrypts()
    elif joins:
        present = joined
    else:
        return wanted != "false"
    if wanted != "auto" and (wanted == "true") != present:
        raise K3sError(
            "K3S_120",
            "k3s_secrets_encryption is {}, and the cluster was made {} encryption".format(
                wanted, "with" if present else "without"
            ),
            "leave it at auto; an existing cluster changes by hand alone, with its servers one after another: "
            "k3s secrets-encrypt --help",
        )
    return present


def audit_arguments(given):
    """Arguments of the API server for our audit log; none when ``given`` ones name a policy of their own."""
    if any(argument.startswith("audit-policy-file=") for argument in given):
        return []
    ours = {
        "audit-policy-file": AUDIT_POLICY,
        "audit-log-path": AUDIT_LOG,
        # A slow disk holds the log back, not those who ask.
        "audit-log-mode": "batch",
        "audit-log-maxsize": AUDIT_SIZE,
        "audit-log-maxbackup": AUDIT_BACKUPS,
    }
    names = {argument.split("=", 1)[0] for argument in given}
    return [f"{name}={value}" for name, value in ours.items() if name not in names]


def server_config(params):
    """Keys of config.yaml: {} on an agent. ``params`` are those of the module k3s_node."""
    if params["role"] != "server":
        return {}
    given = list(params["extra"].get("kube-apiserver-arg") or [])
    encrypted = encryption(params["secrets_encryption"], bool(params["join"]), params["join_encrypted"])
    arguments = audit_arguments(given) if params["audit_policy"] else []
    return {"secrets-encryption": True if encrypted else None, "kube-apiserver-arg": arguments + given}
