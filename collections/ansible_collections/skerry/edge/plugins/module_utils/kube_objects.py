"""Kubernetes objects as manifests: compared by the API server itself, applied server-side, remembered, pruned.

Runs on hosts with Python 3.8, so it keeps to the standard library and to that version's syntax.
"""

from __future__ import annotations

import base64
import copy
import json
import urllib.parse

from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError

MANAGER = "skerry"
MANAGED = {"app.kubernetes.io/managed-by": "skerry"}
APPLY = "application/apply-patch+yaml"
#: Where the lists of applied objects lie, one ConfigMap for each owner.
REMEMBERED_IN = "kube-system"
#: An object with this annotation is made once and never changed afterwards (a generated password).
ONCE = "skerry.dev/apply"
#: Kinds whose specification cannot be changed: they are deleted and made anew, which loses nothing.
REPLACED = ("Job", "RuntimeClass", "StorageClass", "PriorityClass")
#: What the server sets by itself, also in a dry run.
SERVERS_OWN = ("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink")


def reference(item):
    """{apiVersion, kind, namespace, name} of a manifest; namespace is "" where there is none."""
    metadata = item.get("metadata") or {}
    return {
        "apiVersion": item.get("apiVersion", "v1"),
        "kind": item.get("kind", ""),
        "namespace": metadata.get("namespace") or "",
        "name": metadata.get("name") or "",
    }


def title(ref):
    """A reference as people read it."""
    where = "{}/".format(ref["namespace"]) if ref.get("namespace") else ""
    return "{} {}{}".format(ref["kind"], where, ref.get("name") or "")


def plain(item):
    """An object without what the server sets by itself and without its status."""
    result = copy.deepcopy(item)
    for key in SERVERS_OWN:
        result.get("metadata", {}).pop(key, None)
    result.pop("status", None)
    return result


def prepared(item, owner):
    """A manifest as it is sent: labelled as ours; a Secret's stringData encoded, which the API would not give back."""
    result = copy.deepcopy(item)
    metadata = result.setdefault("metadata", {})
    metadata["labels"] = {**MANAGED, **({"skerry.dev/owner": owner} if owner else {}), **(metadata.get("labels") or {})}
    if result.get("kind") == "Secret" and result.get("stringData") is not None:
        texts = {key: base64.b64encode(str(value).encode()).decode() for key, value in result.pop("stringData").items()}
        result["data"] = {**(result.get("data") or {}), **texts}
    return result


def _hidden(before, after):
    """Hide the values of two Secrets, still telling which keys differ."""
    old, new = (before or {}).get("data") or {}, (after or {}).get("data") or {}
    if old:
        before["data"] = {key: "(hidden)" if old[key] == new.get(key) else "(hidden, before)" for key in old}
    if new:
        after["data"] = dict.fromkeys(new, "(hidden)")


def without_secrets(params):
    """A module's arguments as -vvv may show them: values of Secrets among the objects are hidden."""
    told = dict(params)
    for name, items in params.items():
        if isinstance(items, list) and any(isinstance(item, dict) and item.get("kind") == "Secret" for item in items):
            told[name] = [
                {**item, **{key: "(hidden)" for key in ("data", "stringData") if key in item}}
                if isinstance(item, dict) and item.get("kind") == "Secret" else item
                for item in items
            ]  # fmt: skip
    return told


def _text(item):
    return "" if item is None else json.dumps(item, indent=1, sort_keys=True) + "\n"


def difference(ref, before, after):
    """One item of a module's diff; values of Secrets are hidden."""
    before, after = (None if item is None else plain(item) for item in (before, after))
    if ref["kind"] == "Secret":
        _hidden(before, after)
    name = title(ref)
    return {"before_header": name, "after_header": name, "before": _text(before), "after": _text(after)}


def listed(memory):
    """References in a list of applied objects (its ConfigMap, or None). Raises CHART_023 for a damaged one."""
    try:
        refs = json.loads(((memory or {}).get("data") or {}).get("objects", "[]"))
        return [{key: ref[key] for key in ("apiVersion", "kind", "namespace", "name")} for ref in refs]
    except (ValueError, KeyError, TypeError) as error:
        place = title({**reference(memory), "kind": "ConfigMap"})
        raise K3sError(
            "CHART_023",
            f"{place}, which lists what was applied, is damaged: {error!r}",
            "put it right (kubectl edit), or delete it: what it listed then stays until it is deleted by hand",
        ) from error


class Kinds:
    """Paths of objects, learnt from the API's own lists of kinds."""

    def __init__(self, api):
        self.api = api
        self._known = {}

    def lists(self, version):
        """{kind: (plural, namespaced)} of one apiVersion; {} while the API does not have it."""
        if version not in self._known:
            base = "/api/" if "/" not in version else "/apis/"
            answer = self.api.json("GET", base + version, missing_ok=True)
            found = {
                item["kind"]: (item["name"], item["namespaced"])
                for item in (answer or {}).get("resources", [])
                if "/" not in item["name"]
            }
            if not found:
                return {}
            self._known[version] = found
        return self._known[version]

    def forget(self):
        """Ask again: a chart brings kinds with it."""
        self._known = {}

    def collection(self, version, kind, namespace=""):
        """Path of all objects of a kind, None while the API does not have it."""
        known = self.lists(version).get(kind)
        if known is None:
            return None
        plural, namespaced = known
        base = "/api/" if "/" not in version else "/apis/"
        middle = "/namespaces/" + namespace if namespaced and namespace else ""
        return f"{base}{version}{middle}/{plural}"

    def path(self, ref):
        """Path of one object, None while the API does not have its kind."""
        namespaced = self.lists(ref["apiVersion"]).get(ref["kind"], ("", True))[1]
        namespace = (ref.get("namespace") or "default") if namespaced else ""
        folder = self.collection(ref["apiVersion"], ref["kind"], namespace)
        return folder and folder + "/" + urllib.parse.quote(ref["name"], safe="")


class Objects:
    """Objects of one owner in one cluster; ``diff`` grows with each difference that is met.

    With ``check`` nothing is changed: the server says, in a dry run, what would come out.
    """

    def __init__(self, api, check, kinds=None):
        self.api = api
        self.check = check
        self.kinds = kinds or Kinds(api)
        self.diff = []

    def get(self, ref):
        """The object, or None."""
        path = self.kinds.path(ref)
        return path and self.api.json("GET", path, missing_ok=True)

    def apply(self, item, owner=""):
        """Bring one object into its state; returns it as it is (or would be)."""
        wanted = prepared(item, owner)
        ref = reference(wanted)
        if not ref["kind"] or not ref["name"]:
            raise K3sError("CHART_021", "an object has no kind or no name", "write kind and metadata.name into it")
        path, present = self.kinds.path(ref), self.get(ref)
        if path is None:
            if self.check:
                self.diff.append(difference(ref, None, wanted))
                return wanted
            raise K3sError(
                "CHART_022",
                "the cluster has no kind {kind} in {apiVersion} ({name})".format(**ref),
                "install the component that brings it first, or correct apiVersion and kind",
            )
        if present is not None and (item.get("metadata", {}).get("annotations") or {}).get(ONCE) == "once":
            return present
        return self._bring(ref, path, present, wanted)

    def _bring(self, ref, path, present, wanted):
        query = f"{path}?fieldManager={MANAGER}&force=true"
        if present is None:
            self.diff.append(difference(ref, None, wanted))
            return wanted if self.check else self.api.json("PATCH", query, wanted, APPLY)
        try:
            planned = self.api.json("PATCH", query + "&dryRun=All", wanted, APPLY)
        except K3sError as error:
            if ref["kind"] not in REPLACED or "immutable" not in error.cause:
                raise
            return self._replace(ref, path, present, wanted)
        if plain(planned) == plain(present):
            return present
        self.diff.append(difference(ref, present, planned))
        return planned if self.check else self.api.json("PATCH", query, wanted, APPLY)

    def _replace(self, ref, path, present, wanted):
        self.diff.append(difference(ref, present, wanted))
        if self.check:
            return wanted
        self.api.json("DELETE", path, {"propagationPolicy": "Foreground"}, missing_ok=True)
        return self.api.json("PATCH", f"{path}?fieldManager={MANAGER}&force=true", wanted, APPLY)

    def delete(self, ref):
        """Delete one object; returns whether there was one."""
        present = self.get(ref)
        if present is None:
            return False
        if not present["metadata"].get("deletionTimestamp"):
            self.diff.append(difference(ref, present, None))
            if not self.check:
                self.api.json("DELETE", self.kinds.path(ref), {"propagationPolicy": "Background"}, missing_ok=True)
        return True

    def let_go(self, ref):
        """Take the finalizers off an object that is being deleted."""
        held = ((self.get(ref) or {}).get("metadata") or {}).get("finalizers")
        if held and not self.check:
            patch = {"metadata": {"finalizers": None}}
            self.api.json("PATCH", self.kinds.path(ref), patch, "application/merge-patch+json", missing_ok=True)

    def matching(self, spec):
        """References of the objects that a purge names: one by name, several by labels, or all of a kind."""
        version, kind, namespace = spec.get("apiVersion") or "v1", spec["kind"], spec.get("namespace") or ""
        if spec.get("name"):
            return [{"apiVersion": version, "kind": kind, "namespace": namespace, "name": spec["name"]}]
        folder = self.kinds.collection(version, kind, namespace)
        if folder is None:
            return []
        labels = ",".join(f"{key}={value}" for key, value in sorted((spec.get("selector") or {}).items()))
        answer = self.api.json("GET", folder + ("?labelSelector=" + urllib.parse.quote(labels) if labels else ""))
        return [reference({**item, "apiVersion": version, "kind": kind}) for item in answer["items"]]

    # -- what an owner applied -------------------------------------------------------------------------------------

    def _memory(self, owner):
        return {"apiVersion": "v1", "kind": "ConfigMap", "namespace": REMEMBERED_IN, "name": "skerry-objects-" + owner}

    def remembered(self, owner):
        """References of what the owner applied, in that order. Raises CHART_023."""
        return listed(self.get(self._memory(owner)))

    def remember(self, owner, refs):
        """Write the owner's list down, when it differs; an empty one is removed."""
        memory = self._memory(owner)
        if self.remembered(owner) == refs or self.check:
            return
        if not refs:
            self.api.json("DELETE", self.kinds.path(memory), missing_ok=True)
            return
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": memory["name"], "namespace": memory["namespace"], "labels": MANAGED},
            "data": {"objects": json.dumps(refs)},
        }
        self.api.json("PATCH", f"{self.kinds.path(memory)}?fieldManager={MANAGER}&force=true", body, APPLY)
