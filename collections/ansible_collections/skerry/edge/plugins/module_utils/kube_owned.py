"""What one owner (a release, a role) applied: kept in one list, pruned, removed.

Runs on hosts with Python 3.8, so it keeps to the standard library and to that version's syntax.
"""

from __future__ import annotations

import time

from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import UnavailableError
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.kube_objects import reference, title

#: Kinds that hold data or other people's objects: they go only when that is asked for.
KEPT = ("Namespace", "PersistentVolumeClaim", "PersistentVolume", "CustomResourceDefinition")
KEEP = "skerry.dev/keep"


class Owned:
    """Objects of one owner; those without a namespace go to ``namespace``."""

    def __init__(self, objects, owner, namespace):
        self.objects, self.owner, self.namespace = objects, owner, namespace
        self.noted = []

    def _placed(self, item):
        """A manifest with the namespace that it does not name; kinds without one stay without."""
        ref = reference(item)
        known = self.objects.kinds.lists(ref["apiVersion"]).get(ref["kind"])
        if ref["namespace"] or known is None or not known[1]:
            return item
        return {**item, "metadata": {**(item.get("metadata") or {}), "namespace": self.namespace}}

    def apply(self, items):
        """Apply a list of manifests, in its order."""
        for item in items:
            placed = self._placed(item)
            self.note(reference(placed))
            self.objects.apply(placed, self.owner)

    def note(self, ref):
        """An object that belongs to the owner now."""
        if ref not in self.noted:
            self.noted.append(ref)

    def remember(self):
        """Write down what belongs to the owner now, beside what it had before."""
        before = self.objects.remembered(self.owner)
        self.objects.remember(self.owner, before + [ref for ref in self.noted if ref not in before])

    def prune(self):
        """Delete what the owner had and no longer wants, then remember the present list."""
        for ref in reversed(self.objects.remembered(self.owner)):
            if ref not in self.noted and not self._stays(ref):
                self.objects.delete(ref)
        self.objects.remember(self.owner, self.noted)

    def _stays(self, ref):
        present = self.objects.get(ref)
        noted = ((present or {}).get("metadata") or {}).get("annotations") or {}
        return ref["kind"] in KEPT or KEEP in noted

    def remove_all(self, keep, deadline, later=()):
        """Delete everything that the owner applied, the last one first; what is needed ``later`` stays remembered."""
        known = self.objects.remembered(self.owner)
        refs = [ref for ref in reversed(known) if ref not in later and not (keep and self._stays(ref))]
        for ref in refs:
            self.objects.delete(ref)
        self.gone(refs, deadline)
        self.objects.remember(self.owner, [ref for ref in known if ref in later])

    def purge(self, specs, deadline):
        """Delete what a purge names, and wait until it is gone; ``force`` lets go what waits for its controller."""
        refs = []
        for spec in specs:
            found = self.objects.matching(spec if spec.get("name") is None else self._named(spec))
            for ref in found:
                self.objects.delete(ref)
                if spec.get("force"):
                    self.objects.let_go(ref)
            refs += found
        self.gone(refs, deadline)

    def _named(self, spec):
        version, known = spec.get("apiVersion") or "v1", None
        known = self.objects.kinds.lists(version).get(spec["kind"])
        return {**spec, "namespace": spec.get("namespace") or (self.namespace if known and known[1] else "")}

    def remove_namespace(self, deadline):
        """Delete the namespace, if it was made for this owner."""
        ref = {"apiVersion": "v1", "kind": "Namespace", "namespace": "", "name": self.namespace}
        labels = (((self.objects.get(ref) or {}).get("metadata") or {}).get("labels")) or {}
        if labels.get("skerry.dev/owner") == self.owner:
            self.objects.delete(ref)
            self.gone([ref], deadline)

    def gone(self, refs, deadline, sleep=time.sleep, clock=time.monotonic):
        """Wait until deleted objects are gone. Raises CHART_012."""
        left = [] if self.objects.check else list(refs)
        while left:
            try:
                left = [ref for ref in left if self.objects.get(ref) is not None]
            except UnavailableError:
                if clock() >= deadline:
                    raise
            if left and clock() >= deadline:
                raise self._stuck(left)
            if left:
                sleep(0.3)

    def _stuck(self, left):
        item = self.objects.get(left[0]) or {}
        held = ((item.get("metadata") or {}).get("finalizers")) or (item.get("spec") or {}).get("finalizers") or []
        said = [
            condition.get("message") or ""
            for condition in (item.get("status") or {}).get("conditions") or []
            if condition.get("status") == "True"
        ]
        why = "; ".join([*said[:2], "finalizers " + ", ".join(held)] if held else said[:2]) or "no reason is given"
        return K3sError(
            "CHART_012",
            f"{len(left)} deleted objects are still there, first {title(left[0])}: {why}",
            "see what holds them (kubectl get, metadata.finalizers); a controller that is gone cannot let them go",
        )
