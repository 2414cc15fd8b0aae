#!/usr/bin/python
"""Have cert-manager issue a certificate for a host outside the cluster (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_certificate
short_description: Have cert-manager issue a certificate for a host outside the cluster
description:
  - Runs on a server of the cluster; applies the given objects (a namespace and a Certificate) and returns what the
    Certificate's Secret holds. Use it with C(no_log).
  - While there is no cluster, or no cert-manager in it, nothing is returned and nothing changes.
options:
  namespace:
    description: Namespace of the Secret.
    type: str
    required: true
  secret:
    description: Name of the Secret.
    type: str
    required: true
    no_log: false
  objects:
    description: Manifests.
    type: list
    elements: dict
    required: true
  timeout:
    description: Seconds until the certificate must be issued.
    type: int
    default: 60
extends_documentation_fragment:
  - skerry.edge.attributes.no_diff
  - skerry.edge.api
attributes:
  check_mode:
    description: Applies nothing; returns the present certificate.
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Ask cert-manager for the certificate
  skerry.edge.registry_certificate:
    namespace: registry
    secret: registry-1
    objects: "{{ __registry_objects }}"
  no_log: true
  register: __registry_issued
"""

RETURN = r"""
data:
  description: C(tls.crt), C(tls.key), C(ca.crt) in PEM; empty while nothing can be issued.
  returned: success
  type: dict
reason:
  description: Why nothing is returned, '' otherwise.
  returned: success
  type: str
"""

import base64
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import Api, UnavailableError
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.kube_objects import Objects


def decoded(secret):
    """A Secret's data as texts, {} until it holds certificate and key."""
    data = (secret or {}).get("data") or {}
    if not data.get("tls.crt") or not data.get("tls.key"):
        return {}
    return {key: base64.b64decode(value).decode() for key, value in data.items() if value}


def refusal(api, params):
    """REGISTRY_005 with what cert-manager says of the Certificate."""
    path = "/apis/cert-manager.io/v1/namespaces/{namespace}/certificates/{secret}".format(**params)
    found = api.json("GET", path, missing_ok=True) or {}
    said = [item.get("message", "") for item in (found.get("status") or {}).get("conditions") or []]
    words = "; ".join(said) or "no word of it"
    return K3sError(
        "REGISTRY_005",
        "cert-manager issued no certificate within {} s: {}".format(params["timeout"], words),
        "see `kubectl describe certificate {secret} -n {namespace}`; registry_issuer names the issuer".format(**params),
    )


def issue(module, api):
    """The module's result."""
    params = module.params
    work = Objects(api, module.check_mode)
    if work.kinds.collection("cert-manager.io/v1", "Certificate") is None:
        return {"changed": False, "data": {}, "reason": "the cluster has no cert-manager yet"}
    for item in params["objects"]:
        work.apply(item, "registry")
    path = "/api/v1/namespaces/{namespace}/secrets/{secret}".format(**params)
    deadline = time.monotonic() + params["timeout"]
    while True:
        data = decoded(api.json("GET", path, missing_ok=True))
        if data or module.check_mode:
            return {"changed": bool(work.diff), "data": data, "reason": ""}
        if time.monotonic() > deadline:
            raise refusal(api, params)
        time.sleep(0.5)


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "namespace": {"type": "str", "required": True},
            "secret": {"type": "str", "required": True, "no_log": False},
            "objects": {"type": "list", "elements": "dict", "required": True},
            "timeout": {"type": "int", "default": 60},
            "port": {"type": "int", "default": 6443},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**issue(module, Api("server", module.params["port"])))
    except UnavailableError as error:
        module.exit_json(changed=False, data={}, reason=f"the cluster does not answer: {error}")
    except K3sError as error:
        module.fail_json(**error.as_result())


if __name__ == "__main__":
    main()
