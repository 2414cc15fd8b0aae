#!/usr/bin/python
"""Choose the nodes of Redpanda's brokers and their size (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: broker_place
short_description: Choose the nodes of Redpanda's brokers and their size
description:
  - Runs on a server of the cluster and changes nothing.
  - A broker that has data stays on their node. Others go to the nodes with the most memory among those that match
    names, labels, architecture and taints, and whose host can run a broker at all (label C(skerry.dev/broker), set by
    M(skerry.edge.k3s_ready)).
  - Memory and cores are a part of what the smallest chosen node can give, the same every time.
  - Refuses what cannot be undone or never works - a jump over a feature release, a changed volume, an NFS class.
options:
  name:
    description: Name of the release.
    type: str
    required: true
  namespace:
    description: Namespace of the release.
    type: str
    required: true
  brokers:
    description: Number of brokers.
    type: int
    default: 1
  nodes:
    description: Names of the nodes that may carry brokers; empty for all.
    type: list
    elements: str
    default: []
  node_selector:
    description: Labels that the nodes must have.
    type: dict
    default: {}
  architectures:
    description: Architectures that the image has.
    type: list
    elements: str
    default: [amd64, arm64]
  tolerations:
    description: Tolerations that the pods get.
    type: list
    elements: dict
    default: []
  percent:
    description: Part of a node's memory and cores that a broker gets.
    type: int
    default: 50
  memory_mb:
    description: Memory of a broker; 0 to derive it.
    type: int
    default: 0
  memory_max_mb:
    description: Most memory that is derived.
    type: int
    default: 8192
  cores:
    description: Cores of a broker; 0 to derive them.
    type: float
    default: 0
  cores_max:
    description: Most cores that are derived.
    type: int
    default: 2
  storage_size:
    description: Size of a broker's volume.
    type: str
    default: 5Gi
  storage_class:
    description: Class of the volumes; empty for the cluster's default.
    type: str
    default: ""
  version:
    description: Version of Redpanda that is to run, such as C(v26.2.1).
    type: str
    default: ""
extends_documentation_fragment:
  - skerry.edge.attributes.no_diff
  - skerry.edge.api
attributes:
  check_mode:
    description: Nothing is ever changed. Without an API the least size is returned.
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Choose the broker's node
  skerry.edge.broker_place:
    name: redpanda
    namespace: redpanda
    node_selector: {skerry.dev/host-type: cloud}
  become: true
  register: place
"""

RETURN = r"""
nodes:
  description: Names of the nodes, by the ordinals of the brokers.
  returned: success
  type: list
  elements: str
addresses:
  description: Addresses of these nodes for clients outside the cluster.
  returned: success
  type: list
  elements: str
cpu_milli:
  description: Processor time of a broker, in thousandths of a core.
  returned: success
  type: int
memory_mb:
  description: Memory of a broker's container.
  returned: success
  type: int
developer_mode:
  description: Whether start checks have to be relaxed for so little memory.
  returned: success
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.broker_place import (
    LEAST_MB,
    check_storage,
    check_upgrade,
    holders,
    place,
)
from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import Api, UnavailableError, unanswered
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError


def refuse_nfs(api, name):
    """Raise K3sError BROKER_005 for a storage class on NFS."""
    found = name and api.json("GET", "/apis/storage.k8s.io/v1/storageclasses/" + name, missing_ok=True)
    if found and "nfs" in (found.get("provisioner", "") + found["metadata"]["name"]).lower():
        raise K3sError(
            "BROKER_005",
            f"storage class {name} is on NFS ({found['provisioner']}), which Redpanda does not support",
            "set redpanda_storage_class to a class on local disks, such as local-path",
        )


def look(api, params):
    """The module's result. Raises K3sError, UnavailableError."""
    folder = f"/namespaces/{params['namespace']}"
    refuse_nfs(api, params["storage_class"])
    running = api.json("GET", f"/apis/apps/v1{folder}/statefulsets/{params['name']}", missing_ok=True)
    if running:
        check_storage(running, params["storage_size"], params["storage_class"])
        containers = running["spec"]["template"]["spec"]["containers"]
        images = [item["image"] for item in containers if item["name"] == "redpanda"]
        check_upgrade(images[0].rpartition(":")[2] if images else "", params["version"])
    claims = api.json("GET", f"/api/v1{folder}/persistentvolumeclaims")["items"]
    nodes = api.json("GET", "/api/v1/nodes")["items"]
    wishes = {
        "names": params["nodes"],
        "selector": params["node_selector"],
        "architectures": params["architectures"],
        "tolerations": params["tolerations"],
    }
    limits = {key: params[key] for key in ("percent", "memory_mb", "memory_max_mb", "cores", "cores_max")}
    return place(nodes, holders(claims, params["name"]), params["brokers"], wishes, limits)


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str", "required": True},
            "brokers": {"type": "int", "default": 1},
            "nodes": {"type": "list", "elements": "str", "default": []},
            "node_selector": {"type": "dict", "default": {}},
            "architectures": {"type": "list", "elements": "str", "default": ["amd64", "arm64"]},
            "tolerations": {"type": "list", "elements": "dict", "default": []},
            "percent": {"type": "int", "default": 50},
            "memory_mb": {"type": "int", "default": 0},
            "memory_max_mb": {"type": "int", "default": 8192},
            "cores": {"type": "float", "default": 0},
            "cores_max": {"type": "int", "default": 2},
            "storage_size": {"type": "str", "default": "5Gi"},
            "storage_class": {"type": "str", "default": ""},
            "version": {"type": "str", "default": ""},
            "port": {"type": "int", "default": 6443},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **look(Api("server", module.params["port"]), module.params))
    except UnavailableError as error:
        if module.check_mode:
            least = {"cpu_milli": 1000, "memory_mb": LEAST_MB, "developer_mode": True}
            module.exit_json(changed=False, nodes=[], addresses=[], **least)
        module.fail_json(**unanswered(error).as_result())
    except K3sError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
