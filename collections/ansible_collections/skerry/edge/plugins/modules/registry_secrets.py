#!/usr/bin/python
"""Documentation of the action plugin of the same name; it runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_secrets
short_description: Keep authority, certificate and password of a site's registry on the controller
description:
  - Makes a certificate authority of the site's own once, the registry's certificate from it (anew before it ends, or
    when its names change), and a password. All files have mode 0600 and lie in a folder of the registry's own.
  - Returns what host and clients need; use it with C(no_log).
options:
  folder:
    description: Folder on the controller; each registry has a folder of its C(name) in it.
    type: path
    required: true
  name:
    description: Inventory name of the registry's host.
    type: str
    required: true
  names:
    description: Names and addresses of the certificate. Without any no certificate is made (a client asks).
    type: list
    elements: str
    default: []
  tls:
    description: Where the certificate comes from.
    type: str
    choices: [own_ca, cert_manager, files]
    default: own_ca
  certificate:
    description: With C(tls=files), the certificate with its chain.
    type: path
    default: ""
  key:
    description: With C(tls=files), its key.
    type: path
    default: ""
  ca:
    description: With C(tls=files), the authority that clients are to trust.
    type: path
    default: ""
  issued:
    description: With C(tls=cert_manager), the data of the Secret that cert-manager filled.
    type: dict
    default: {}
  days:
    description: Life of a certificate of the own authority.
    type: int
    default: 825
  renew_days:
    description: Days before its end that it is made anew.
    type: int
    default: 60
  password:
    description: The password; empty to have one made once.
    type: str
    default: ""
  state:
    description: C(absent) removes the registry's folder from the controller.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - skerry.edge.attributes.no_diff
attributes:
  check_mode:
    description: Writes nothing.
author:
  - The Skerry authors
"""

EXAMPLES = r"""
- name: Keep the registry's secrets
  skerry.edge.registry_secrets:
    folder: .skerry/registry
    name: "{{ inventory_hostname }}"
    names: [registry.example.org, 192.0.2.10]
  no_log: true
  register: __registry_secrets
"""

RETURN = r"""
ca:
  description: Certificate of the authority, in PEM.
  returned: success
  type: str
certificate:
  description: Certificate of the registry, in PEM.
  returned: success
  type: str
key:
  description: Its key.
  returned: success
  type: str
expires:
  description: End of its life, UTC.
  returned: success
  type: str
password:
  description: The password.
  returned: success
  type: str
written:
  description: Names of the files that were written.
  returned: success
  type: list
  elements: str
"""
