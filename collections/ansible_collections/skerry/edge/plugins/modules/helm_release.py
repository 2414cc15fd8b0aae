#!/usr/bin/python
"""Bring a Helm release into its state through k3s's Helm controller (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: helm_release
short_description: Bring a Helm release into its state through k3s's Helm controller
description:
  - Runs on a server of the cluster and speaks with its API; needs neither helm nor kubectl nor Python packages.
  - In this order it makes the namespace, applies C(objects_before), keeps secret values in a Secret, applies a
    HelmChart object, waits for its job, waits for C(ready), applies C(objects) and waits for C(objects_ready). When
    everything is as it should be it only looks, in a fraction of a second.
  - Objects that it applied earlier and that are no longer listed are deleted; namespaces, volume claims and custom
    resource definitions among them stay, as do objects with the annotation C(skerry.dev/keep).
  - A job that fails, or is not done at the deadline, ends the task with a code, the job's log and the events.
options:
  name:
    description: Name of the release and of the HelmChart.
    type: str
    required: true
  state:
    description: Whether the release is there.
    type: str
    choices: [present, absent]
    default: present
  namespace:
    description: Namespace of what the chart installs.
    type: str
    required: true
  create_namespace:
    description: Make the namespace when it is not there.
    type: bool
    default: true
  chart:
    description: Name of the chart.
    type: str
    default: ""
  version:
    description: Version of the chart.
    type: str
    default: ""
  repo:
    description: Repository of the chart, https:// or oci://.
    type: str
    default: ""
  archive:
    description: Path on this host of the chart's archive; empty to let k3s fetch the chart.
    type: str
    default: ""
  delivery:
    description: Whether the archive travels in the HelmChart object or is served from every server's static folder.
    type: str
    choices: [content, static]
    default: content
  values:
    description: Values of the chart.
    type: dict
    default: {}
  secret_values:
    description: Values that are secret; they win over C(values).
    type: dict
    default: {}
  failure_policy:
    description: What k3s does after a failed operation of Helm.
    type: str
    choices: [abort, reinstall]
    default: abort
  bootstrap:
    description: Let the job run on a server that is not Ready.
    type: bool
    default: false
  job_image:
    description: Image of the job; empty for that of k3s.
    type: str
    default: ""
  timeout:
    description: Seconds until everything has to be up.
    type: int
    default: 600
  ready:
    description: >-
      What must be up before C(objects); each has kind, name, and where needed namespace, apiVersion, condition.
    type: list
    elements: dict
    default: []
  objects_before:
    description: Manifests that the chart needs beforehand.
    type: list
    elements: dict
    default: []
  objects:
    description: Manifests beside the chart.
    type: list
    elements: dict
    default: []
  objects_ready:
    description: What must be up at the end.
    type: list
    elements: dict
    default: []
  keep_data:
    description: Whether C(state=absent) leaves what C(purge_before) and C(purge) name, the namespace and kept objects.
    type: bool
    default: true
  purge_before:
    description: >-
      What goes before the release; each has kind, apiVersion, and name, or selector, or neither for all. C(force)
      takes finalizers off, for kinds that would wait for something outside the cluster.
    type: list
    elements: dict
    default: []
  purge:
    description: What goes after the release.
    type: list
    elements: dict
    default: []
extends_documentation_fragment:
  - skerry.edge.attributes
  - skerry.edge.api
attributes:
  check_mode:
    description: Nothing is changed; the API says in dry runs what would come out. Without an API all is a change.
  diff_mode:
    description: Shows objects before and after; Secrets without their values, archives as digests.
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Install cert-manager
  skerry.edge.helm_release:
    name: cert-manager
    namespace: cert-manager
    chart: cert-manager
    version: v1.21.2
    repo: https://charts.jetstack.io
    values:
      crds: {enabled: true}
    ready:
      - {kind: Deployment, name: cert-manager-webhook}
"""

RETURN = r"""
release:
  description: Name, namespace, chart and version.
  returned: success
  type: dict
seconds:
  description: How long it took.
  returned: success
  type: float
"""

import base64
import os
import secrets

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.helm_job import (
    SYSTEM,
    Release,
    archive_spec,
    chart_spec,
    manifest,
    same_spec,
    shown,
    values_text,
)
from ansible_collections.skerry.edge.plugins.module_utils.kube_objects import MANAGED, difference
from ansible_collections.skerry.edge.plugins.module_utils.kube_owned import Owned
from ansible_collections.skerry.edge.plugins.module_utils.kube_rollout import Watch, target
from ansible_collections.skerry.edge.plugins.module_utils.kube_task import settle


class Run:
    """One run of the module."""

    def __init__(self, objects, params, deadline):
        self.params = params
        self.check = objects.check
        self.deadline = deadline
        self.objects = objects
        self.watch = Watch(objects)
        self.release = Release(objects, self.watch, params["name"])
        self.owned = Owned(objects, params["name"], params["namespace"])

    def do(self):
        """Bring everything into its state."""
        return self.present() if self.params["state"] == "present" else self.absent()

    # -- present ---------------------------------------------------------------------------------------------------

    def present(self):
        """Install, upgrade, or only look."""
        self.namespace()
        self.owned.apply(self.params["objects_before"])
        chart = self.objects.get(self.release.reference)
        self.chart(chart, self.secret(chart))
        if not self.check:
            self.release.wait(self.deadline)
            self.objects.kinds.forget()
            self.wait(self.params["ready"])
        self.owned.apply(self.params["objects"])
        if self.objects.diff:
            self.owned.remember()
        if not self.check:
            self.wait(self.params["objects_ready"])
        self.owned.prune()

    def wait(self, specs):
        """Wait for a list of things."""
        self.watch.wait([target(spec, self.params["namespace"]) for spec in specs], self.deadline)

    def namespace(self):
        """Make the namespace when it is not there; one that is there is left as it is."""
        ref = {"apiVersion": "v1", "kind": "Namespace", "namespace": "", "name": self.params["namespace"]}
        if not self.params["create_namespace"] or self.objects.get(ref) is not None:
            return
        labels = {**MANAGED, "skerry.dev/owner": self.params["name"]}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ref["name"], "labels": labels}}
        self.objects.diff.append(difference(ref, None, body))
        if not self.check:
            self.objects.api.json("POST", "/api/v1/namespaces", body)

    def secret(self, chart):
        """Keep the secret values; returns the name of their Secret, "" without such values.

        A change gets a new name, so that the job that follows can only have read the new ones.
        """
        if not self.params["secret_values"]:
            return ""
        data = base64.b64encode(values_text(self.params["secret_values"]).encode()).decode()
        for item in ((chart or {}).get("spec") or {}).get("valuesSecrets") or []:
            ref = {"apiVersion": "v1", "kind": "Secret", "namespace": SYSTEM, "name": item["name"]}
            if ((self.objects.get(ref) or {}).get("data") or {}).get("values") == data:
                self.owned.note(ref)
                return item["name"]
        name = "values-{}-{}".format(self.params["name"], secrets.token_hex(4))
        metadata = {"name": name, "namespace": SYSTEM}
        self.owned.apply([{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"values": data}}])
        return name

    def chart(self, present, secret_name):
        """Bring the HelmChart into its state."""
        archive = self.params["archive"]
        if archive and self.check and not os.path.exists(archive):
            content = {"chartContent": ""}  # a check of a fresh host: the archive would have been placed
        else:
            content = archive_spec(archive, self.params["delivery"]) if archive else {}
        spec = chart_spec(self.params, content, secret_name)
        if present is not None and present["metadata"].get("deletionTimestamp"):
            self.release.remove(self.deadline)
            present = None
        if present is not None and same_spec(present.get("spec") or {}, spec):
            return
        before = None if present is None else shown(present)
        after = shown(manifest(self.params["name"], spec, ""))
        if before is not None:
            after["metadata"] = before["metadata"]
        self.objects.diff.append(difference(self.release.reference, before, after))
        if not self.check:
            # What the job would need is remembered before it: an interrupted run leaves nothing that nobody knows.
            self.owned.remember()
            self.release.write(present, spec)

    # -- absent ----------------------------------------------------------------------------------------------------

    def absent(self):
        """Uninstall; data goes only when asked for."""
        keep = self.params["keep_data"]
        if not keep:
            self.owned.purge(self.params["purge_before"], self.deadline)
        # The job that uninstalls mounts what the job that installed did.
        prefix = "values-" + self.params["name"] + "-"
        known = self.objects.remembered(self.params["name"])
        secret = [ref for ref in known if ref["namespace"] == SYSTEM and ref["name"].startswith(prefix)]
        self.owned.remove_all(keep, self.deadline, secret)
        if self.check:
            self.objects.delete(self.release.reference)
        else:
            self.release.remove(self.deadline)
        for ref in secret:
            self.objects.delete(ref)
        self.objects.remember(self.params["name"], [])
        if not keep:
            self.owned.purge(self.params["purge"], self.deadline)
            self.owned.remove_namespace(self.deadline)


def arguments():
    """The module's argument spec."""
    lists = ("ready", "objects_before", "objects", "objects_ready", "purge_before", "purge")
    return {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "namespace": {"type": "str", "required": True},
        "create_namespace": {"type": "bool", "default": True},
        "chart": {"type": "str", "default": ""},
        "version": {"type": "str", "default": ""},
        "repo": {"type": "str", "default": ""},
        "archive": {"type": "str", "default": ""},
        "delivery": {"type": "str", "choices": ["content", "static"], "default": "content"},
        "values": {"type": "dict", "default": {}},
        "secret_values": {"type": "dict", "default": {}, "no_log": True},
        "failure_policy": {"type": "str", "choices": ["abort", "reinstall"], "default": "abort"},
        "bootstrap": {"type": "bool", "default": False},
        "job_image": {"type": "str", "default": ""},
        "timeout": {"type": "int", "default": 600},
        "keep_data": {"type": "bool", "default": True},
        "port": {"type": "int", "default": 6443},
        **{name: {"type": "list", "elements": "dict", "default": []} for name in lists},
    }


def bring(objects, params, deadline):
    """Bring the release into its state."""
    Run(objects, params, deadline).do()


def main():
    """Entry point."""
    module = AnsibleModule(argument_spec=arguments(), supports_check_mode=True)
    release = {key: module.params[key] for key in ("name", "namespace", "chart", "version")}
    settle(module, bring, release=release)


if __name__ == "__main__":
    main()
