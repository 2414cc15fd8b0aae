#!/usr/bin/python
"""Documentation of the action plugin of the same name; it runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_kubeconfig
short_description: Fetch the administrator's kubeconfig of a cluster to the controller
description:
  - Reads the kubeconfig on a server, puts in the address that people reach the cluster by, names cluster, user and
    context after the cluster, and writes it to a file of the controller with mode 0600. C(~/.kube) is never touched.
options:
  dest:
    description: The file on the controller.
    type: path
    required: true
  server:
    description: URL of the API server.
    type: str
    required: true
  servers:
    description: URLs of servers that live. A kubeconfig of the same cluster that names one of them stays as it is.
    type: list
    elements: str
    default: []
  name:
    description: Name of the cluster.
    type: str
    default: skerry
  src:
    description: The file on the server.
    type: path
    default: /etc/rancher/k3s/k3s.yaml
extends_documentation_fragment:
  - skerry.edge.attributes.no_diff
attributes:
  check_mode:
    description: Writes nothing.
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Fetch the kubeconfig
  skerry.edge.k3s_kubeconfig:
    dest: .skerry/kube/skerry.yaml
    server: https://192.0.2.10:6443
"""

RETURN = r"""
dest:
  description: The file.
  returned: success
  type: str
"""
