"""The host's side of deployed workloads: standard library only, Python 3.9 and later; placed by the role.

What a host should have lies below `places.STATE`, one JSON document a workload (`skerry.deploy.desired` makes them).
systemd keeps it running. Of this package stays in memory what ports need (`relay`) and what passes on a
container's output (`supervise`).
"""

from __future__ import annotations

#: What the controller and this side must agree on.
PROTOCOL = 1
