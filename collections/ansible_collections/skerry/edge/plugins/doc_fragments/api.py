"""What modules that speak with the cluster's API on a server of it have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """``skerry.edge.api``: how the API is reached."""

    DOCUMENTATION = r"""
options:
  port:
    description: Port of the API.
    type: int
    default: 6443
"""
