"""Labels, taints and RuntimeClasses: what is set, what is removed, what of others' stays."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.skerry.edge.plugins.modules import k3s_objects as objects


def node(labels: dict[str, str] | None = None, taints: list[dict[str, str]] | None = None) -> dict[str, Any]:
    metadata = {"name": "n", "resourceVersion": "7", "labels": labels or {}, "annotations": {}}
    return {"metadata": metadata, "spec": {"taints": taints or []}}


def apply(item: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """What the API does with a merge patch."""
    result: dict[str, Any] = json.loads(json.dumps(item))

    def merge(into: dict[str, Any], change: dict[str, Any]) -> None:
        for key, value in change.items():
            if value is None:
                into.pop(key, None)
            elif isinstance(value, dict):
                merge(into.setdefault(key, {}), value)
            else:
                into[key] = value

    merge(result, patch)
    return result


def test_labels_come_change_and_go_and_others_stay() -> None:
    before = node({"other": "x"})
    first = apply(
        before, objects.node_patch(before, {"labels": {"a": "1", "b": "2"}, "roles": ["worker"], "handlers": ["w"]})
    )
    assert first["metadata"]["labels"] == {
        "other": "x",
        "a": "1",
        "b": "2",
        "node-role.kubernetes.io/worker": "true",
        "skerry.dev/runtime-w": "true",
    }
    second = apply(first, objects.node_patch(first, {"labels": {"a": "3"}}))
    assert second["metadata"]["labels"] == {"other": "x", "a": "3"}
    assert objects.node_patch(second, {"labels": {"a": "3"}}) == {}


def test_a_label_that_another_party_set_is_not_taken_away_later() -> None:
    item = node({"theirs": "x"})
    item["metadata"]["annotations"]["skerry.dev/labels"] = json.dumps(["mine"])
    after = apply(item, objects.node_patch(item, {"labels": {}}))
    assert after["metadata"]["labels"] == {"theirs": "x"}


def test_taints_of_others_stay() -> None:
    theirs = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
    item = node(taints=[theirs])
    first = apply(item, objects.node_patch(item, {"taints": ["a=1:NoSchedule"]}))
    assert first["spec"]["taints"] == [theirs, {"key": "a", "value": "1", "effect": "NoSchedule"}]
    changed = apply(first, objects.node_patch(first, {"taints": ["a=2:NoSchedule"]}))
    assert changed["spec"]["taints"] == [theirs, {"key": "a", "value": "2", "effect": "NoSchedule"}]
    gone = apply(changed, objects.node_patch(changed, {"taints": []}))
    assert gone["spec"]["taints"] == [theirs]
    assert objects.node_patch(gone, {}) == {}


def test_a_patch_of_taints_names_the_version_that_it_was_made_from() -> None:
    patch = objects.node_patch(node(), {"taints": ["a:NoSchedule"]})
    assert patch["metadata"]["resourceVersion"] == "7"
    assert "resourceVersion" not in objects.node_patch(node(), {"labels": {"a": "1"}})["metadata"]


def test_taints_in_another_order_are_no_change() -> None:
    item = node(taints=[{"key": "b", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}])
    patch = objects.node_patch(item, {"taints": ["a:NoSchedule", "b:NoSchedule"]})
    assert "spec" not in patch


def test_a_damaged_annotation_removes_nothing() -> None:
    item = node({"a": "1"})
    item["metadata"]["annotations"]["skerry.dev/labels"] = "{broken"
    assert "labels" not in objects.node_patch(item, {}).get("metadata", {})


def classes(*names: str, ours: bool = True) -> list[dict[str, Any]]:
    found = [objects.runtime_class(name) for name in names]
    for item in found if not ours else []:
        item["metadata"]["labels"] = {}
    return found


def test_runtime_classes_follow_the_proved_handlers() -> None:
    assert [(step[0], step[3]) for step in objects.class_steps([], {"w"})] == [("POST", "w")]
    assert objects.class_steps(classes("w"), {"w"}) == []
    assert [(step[0], step[3]) for step in objects.class_steps(classes("w", "old"), {"w"})] == [("DELETE", "old")]


def test_runtime_classes_of_others_stay() -> None:
    assert objects.class_steps(classes("wasmtime", ours=False), set()) == []
    assert objects.class_steps(classes("wasmtime", ours=False), {"wasmtime"}) == []


def test_a_runtime_class_lets_pods_land_on_proved_nodes_only() -> None:
    assert objects.runtime_class("w")["scheduling"]["nodeSelector"] == {"skerry.dev/runtime-w": "true"}
