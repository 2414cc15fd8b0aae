#!/usr/bin/python
"""Bring Kubernetes objects into their state (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_apply
short_description: Bring Kubernetes objects into their state
description:
  - Runs on a server of the cluster and speaks with its API; needs neither kubectl nor Python packages.
  - The API server itself compares (a server-side apply as dry run), so that its defaults are no difference; what
    differs is applied, in the order of the list.
  - Objects that the same owner applied earlier and that are no longer listed are deleted; namespaces, volume claims
    and custom resource definitions among them stay, as do objects with the annotation C(skerry.dev/keep).
  - An object with the annotation C(skerry.dev/apply=once) is made when it is not there and never changed.
  - Jobs, StorageClasses, RuntimeClasses and PriorityClasses are made anew when what differs cannot be changed.
options:
  owner:
    description: Name under which the objects are remembered; each list of objects has its own.
    type: str
    required: true
  state:
    description: absent deletes everything that the owner applied.
    type: str
    choices: [present, absent]
    default: present
  objects:
    description: Manifests.
    type: list
    elements: dict
    default: []
  namespace:
    description: Namespace of objects that name none.
    type: str
    default: default
  ready:
    description: What must be up at the end; each has kind, name, and where needed namespace, apiVersion, condition.
    type: list
    elements: dict
    default: []
  timeout:
    description: Seconds until everything has to be up.
    type: int
    default: 300
  keep_data:
    description: Whether C(state=absent) leaves namespaces, volume claims, custom resource definitions and kept objects.
    type: bool
    default: true
extends_documentation_fragment:
  - skerry.edge.attributes
  - skerry.edge.api
attributes:
  check_mode:
    description: Nothing is changed; without an API everything counts as a change.
  diff_mode:
    description: Shows objects before and after; Secrets without their values.
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Make a namespace with a quota
  skerry.edge.k3s_apply:
    owner: sensors
    objects:
      - {apiVersion: v1, kind: Namespace, metadata: {name: sensors}}
      - apiVersion: v1
        kind: ResourceQuota
        metadata: {name: pods, namespace: sensors}
        spec: {hard: {pods: "20"}}
"""

RETURN = r"""
seconds:
  description: How long it took.
  returned: success
  type: float
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.kube_owned import Owned
from ansible_collections.skerry.edge.plugins.module_utils.kube_rollout import Watch, target
from ansible_collections.skerry.edge.plugins.module_utils.kube_task import settle


def bring(objects, params, deadline):
    """Bring the owner's objects into their state."""
    owned = Owned(objects, params["owner"], params["namespace"])
    if params["state"] == "absent":
        owned.remove_all(params["keep_data"], deadline)
        return
    owned.apply(params["objects"])
    owned.prune()
    if not objects.check:
        Watch(objects).wait([target(spec, params["namespace"]) for spec in params["ready"]], deadline)


def arguments():
    """The module's argument spec."""
    return {
        "owner": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "objects": {"type": "list", "elements": "dict", "default": []},
        "namespace": {"type": "str", "default": "default"},
        "ready": {"type": "list", "elements": "dict", "default": []},
        "timeout": {"type": "int", "default": 300},
        "keep_data": {"type": "bool", "default": True},
        "port": {"type": "int", "default": 6443},
    }


def main():
    """Entry point."""
    settle(AnsibleModule(argument_spec=arguments(), supports_check_mode=True), bring)


if __name__ == "__main__":
    main()
