#!/usr/bin/python
"""Topics of a Kafka broker in the cluster, and the proof that messages get through (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: broker
short_description: Topics of a Kafka broker in the cluster, and the proof that messages get through
description:
  - Runs on a server of the cluster and speaks Kafka's protocol with the brokers' pods; needs neither rpk nor a library.
  - Topics get their partitions and settings; what is not named stays as it is. Topics are deleted only when they are
    listed in C(absent).
  - The proof makes a topic, sends a message, reads it back and removes the topic; with C(external) it is done once more
    as a client outside the cluster does it, which follows the addresses that the brokers advertise.
  - CA and login come from the cluster's own Secrets, so that neither passes through a playbook.
options:
  name:
    description: Name of the release; its pods are C(<name>-0) and so on.
    type: str
    default: redpanda
  namespace:
    description: Namespace of the release.
    type: str
    default: redpanda
  brokers:
    description: Number of brokers.
    type: int
    default: 1
  kafka_port:
    description: Port of Kafka in the cluster.
    type: int
    default: 9093
  topics:
    description: Topics, each with C(name) and, where wanted, C(partitions), C(replication), C(retention_ms),
      C(retention_bytes), C(cleanup_policy) and C(config).
    type: list
    elements: dict
    default: []
  absent:
    description: Names of topics that are to be deleted.
    type: list
    elements: str
    default: []
  prove:
    description: Whether to send a message; C(changed) does when topics changed or C(changed_before) is true.
    type: str
    choices: [always, changed, never]
    default: changed
  changed_before:
    description: Whether something about the brokers changed earlier in this run.
    type: bool
    default: false
  external:
    description: Addresses such as C(192.0.2.1:31092) of the brokers for clients outside the cluster.
    type: list
    elements: str
    default: []
  tls_secret:
    description: Secret with the CA (C(ca.crt)) of the brokers; empty without TLS.
    type: str
    default: ""
  external_tls_secret:
    description: The same for the external listeners.
    type: str
    default: ""
  sasl_secret:
    description: Secret with the C(password) of the user; empty without SASL.
    type: str
    default: ""
  sasl_user:
    description: User that may do everything.
    type: str
    default: kubernetes-controller
  sasl_mechanism:
    description: The user's mechanism.
    type: str
    default: SCRAM-SHA-256
  timeout:
    description: Seconds until the brokers have to answer.
    type: int
    default: 120
extends_documentation_fragment:
  - skerry.edge.attributes
  - skerry.edge.api
attributes:
  check_mode:
    description: Topics are only compared and no message is sent; without brokers everything counts as a change.
  diff_mode:
    description: Shows topics.
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Make the topics
  skerry.edge.broker:
    topics:
      - {name: sensors, partitions: 3, retention_ms: 86400000}
    external: [192.0.2.1:31092]
  become: true
"""

RETURN = r"""
topics:
  description: Names of the topics that the brokers have now.
  returned: success
  type: list
  elements: str
proof:
  description: What was proved, C(seconds) each for C(internal) and C(external); empty when no message was sent.
  returned: success
  type: dict
"""

import base64
import json
import os
import ssl
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.broker_topics import steps, take, wanted
from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import Api, UnavailableError, unanswered
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.kafka_client import LATER, Client, KafkaError

PROBE = "skerry-probe"


class Cluster:
    """Where the brokers are and how one logs in, as the Kubernetes API says it."""

    def __init__(self, params, api=None):
        self.params = params
        self.api = api or Api("server", params["port"])

    def pods(self):
        """[(name, address)] of the running pods. Raises UnavailableError."""
        folder = f"/api/v1/namespaces/{self.params['namespace']}/pods/"
        found = []
        for number in range(self.params["brokers"]):
            name = f"{self.params['name']}-{number}"
            pod = self.api.json("GET", folder + name, missing_ok=True)
            if pod and pod.get("status", {}).get("podIP"):
                found.append((name, pod["status"]["podIP"]))
        return found

    def secret(self, name, key):
        """Text of a Secret's key. Raises K3sError BROKER_012."""
        path = f"/api/v1/namespaces/{self.params['namespace']}/secrets/{name}"
        data = (self.api.json("GET", path, missing_ok=True) or {}).get("data") or {}
        if not data.get(key):
            raise K3sError(
                "BROKER_012",
                f"secret {name} in namespace {self.params['namespace']} has no {key}",
                "see whether the chart made it (SASL) or cert-manager issued the certificate (TLS): kubectl describe",
            )
        return base64.b64decode(data[key]).decode()

    def tls(self, secret):
        """A context that trusts the CA of a Secret, None without one."""
        return ssl.create_default_context(cadata=self.secret(secret, "ca.crt")) if secret else None

    def sasl(self):
        """(mechanism, user, password), None without SASL."""
        if not self.params["sasl_secret"]:
            return None
        password = self.secret(self.params["sasl_secret"], "password").strip()
        return self.params["sasl_mechanism"], self.params["sasl_user"], password

    def inside(self):
        """A client of the listener in the cluster; hosts do not know the cluster's names, so they are resolved here."""
        pods = self.pods()
        domain = "{name}.{namespace}.svc".format(**self.params)
        client = Client(
            [(f"{name}.{domain}", self.params["kafka_port"]) for name, _address in pods],
            tls=self.tls(self.params["tls_secret"]),
            sasl=self.sasl(),
        )
        client.resolve = Names(pods)
        return client

    def outside(self):
        """A client as one outside the cluster is."""
        addresses = [item.rpartition(":") for item in self.params["external"]]
        return Client(
            [(host, int(port)) for host, _colon, port in addresses],
            tls=self.tls(self.params["external_tls_secret"]),
            sasl=self.sasl(),
        )


class Names(dict):
    """Addresses of the names that brokers advertise in the cluster (``redpanda-0.redpanda.redpanda.svc...``)."""

    def get(self, key, default=None):
        """The address of the pod that the first part of a name is, else the default."""
        return super().get(key.partition(".")[0], default)


def prove(client, brokers, timeout):
    """Send a message and read it back; seconds it took. Raises KafkaError."""
    start = time.monotonic()
    text = f"skerry {os.urandom(8).hex()}".encode()
    if PROBE not in client.metadata():
        client.create_topic(PROBE, 1, 3 if brokers >= 3 else 1, {})
    leader = -1
    while leader < 0:
        leader = client.metadata([PROBE]).get(PROBE, {"partitions": {}})["partitions"].get(0, -1)
        if leader < 0 and time.monotonic() - start > timeout:
            raise KafkaError(f"topic {PROBE} gets no leader", 5)
    offset = client.produce(PROBE, leader, text)
    if client.fetch(PROBE, leader, offset) != text:
        raise KafkaError(f"offset {offset} of {PROBE} holds another message than the one that was sent")
    client.delete_topic(PROBE)
    return round(time.monotonic() - start, 2)


def persist(action, timeout):
    """Run an action again while the brokers are still coming up, until the deadline. Raises KafkaError."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return action()
        except KafkaError as error:
            if (error.code and error.code not in LATER) or time.monotonic() >= deadline:
                raise
            time.sleep(1)


class Run:
    """One run of the module."""

    def __init__(self, module, cluster):
        self.module = module
        self.params = module.params
        self.cluster = cluster
        self.diff = []

    def topics(self):
        """Bring the topics into their state; the names of all. Raises KafkaError."""
        client = self.cluster.inside()
        try:
            present = client.metadata()
            topics = wanted(self.params["topics"], len(client.brokers))
            known = client.settings([name for name in topics if name in present])
            for step in steps(topics, self.params["absent"], present, known):
                if not self.module.check_mode:
                    take(client, step)
                self.show(step)
            return sorted((set(present) | set(topics)) - set(self.params["absent"]) - {PROBE})
        finally:
            client.close()

    def show(self, step):
        """Add a step to the diff."""
        verb, name, values = step
        after = {key: value for key, value in values.items() if key != "before"}
        text = "" if verb == "delete" else json.dumps(after, indent=1, sort_keys=True) + "\n"
        before = values.get("before") if verb != "delete" else "there"
        shown = "" if before is None else json.dumps(before, indent=1, sort_keys=True) + "\n"
        self.diff.append({"header": f"topic {name}", "before": shown, "after": text})

    def proof(self):
        """Seconds of each way that a message took."""
        how = self.params["prove"]
        if self.module.check_mode or how == "never":
            return {}
        if how == "changed" and not (self.diff or self.params["changed_before"]):
            return {}
        found = {}
        for way, make in (("internal", self.cluster.inside), ("external", self.cluster.outside)):
            if way == "external" and not self.params["external"]:
                continue
            found[way] = persist(lambda make=make: self.once(make), self.params["timeout"])
        return found

    def once(self, make):
        """One proof with a client of its own."""
        client = make()
        try:
            return prove(client, self.params["brokers"], self.params["timeout"])
        finally:
            client.close()

    def do(self):
        """Everything; the module's result. Raises K3sError."""
        doing, where = "topics", "in the cluster"
        try:
            topics = persist(self.topics, 0 if self.module.check_mode else self.params["timeout"])
            doing = "a message"
            if self.params["external"]:
                where = "in the cluster and at " + ", ".join(self.params["external"])
            return {"topics": topics, "proof": self.proof(), "diff": self.diff, "changed": bool(self.diff)}
        except KafkaError as error:
            raise K3sError(
                "BROKER_013" if doing == "topics" else "BROKER_014",
                f"{doing} {where}: {error}",
                "see `kubectl -n {namespace} logs {name}-0 -c redpanda`; from outside also the firewall and "
                "redpanda_external_addresses".format(**self.params),
            ) from error


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "default": "redpanda"},
            "namespace": {"type": "str", "default": "redpanda"},
            "brokers": {"type": "int", "default": 1},
            "kafka_port": {"type": "int", "default": 9093},
            "topics": {"type": "list", "elements": "dict", "default": []},
            "absent": {"type": "list", "elements": "str", "default": []},
            "prove": {"type": "str", "choices": ["always", "changed", "never"], "default": "changed"},
            "changed_before": {"type": "bool", "default": False},
            "external": {"type": "list", "elements": "str", "default": []},
            "tls_secret": {"type": "str", "default": "", "no_log": False},
            "external_tls_secret": {"type": "str", "default": "", "no_log": False},
            "sasl_secret": {"type": "str", "default": "", "no_log": False},
            "sasl_user": {"type": "str", "default": "kubernetes-controller"},
            "sasl_mechanism": {"type": "str", "default": "SCRAM-SHA-256"},
            "timeout": {"type": "int", "default": 120},
            "port": {"type": "int", "default": 6443},
        },
        supports_check_mode=True,
    )
    run = Run(module, Cluster(module.params))
    try:
        module.exit_json(**run.do())
    except UnavailableError as error:
        if module.check_mode:
            module.exit_json(changed=True, topics=[], proof={}, msg="no API yet")
        module.fail_json(**unanswered(error).as_result())
    except K3sError as error:
        if module.check_mode and error.code in ("BROKER_012", "BROKER_013"):
            module.exit_json(changed=True, topics=[], proof={}, msg="no brokers yet")
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
