"""The cluster on the shared hosts, for tests of what roles install in it; ``host`` is testinfra's."""

from __future__ import annotations

import json
from typing import Any

SERVER = "cloud-1"
KUBECTL = "k3s kubectl --cache-dir=/tmp/kubectl-cache"


def facts(host: Any, section: str) -> dict[str, Any]:
    """What a role wrote down on the host; empty when it never ran there."""
    found = json.loads(host.file("/etc/ansible/facts.d/skerry.fact").content_string)
    section_found: dict[str, Any] = found.get(section, {})
    return section_found


def get(host: Any, what: str, space: str) -> Any:
    """An object of the cluster, or None."""
    done = host.run(f"{KUBECTL} -n {space} get {what} -o json --ignore-not-found")
    assert done.rc == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


def apply(host: Any, item: dict[str, Any]) -> None:
    """Apply one manifest."""
    host.check_output(f"{KUBECTL} apply -f - <<'EOF'\n{json.dumps(item)}\nEOF")
