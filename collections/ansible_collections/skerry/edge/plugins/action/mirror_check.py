"""Compare what all hosts of a play need with the mirror, before anything changes (see the module's DOCUMENTATION)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.skerry.edge.plugins.module_utils.artifacts import ArtifactError, is_url
from ansible_collections.skerry.edge.plugins.plugin_utils.mirror_needs import (
    ARCHS,
    Mirror,
    incomplete,
    noted_needs,
    representatives,
    survey,
)

#: Groups whose hosts are nodes of the cluster.
CLUSTER = ("skerry_servers", "skerry_agents")


class ActionModule(ActionBase):  # type: ignore[misc]
    """Works on the controller alone."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Tell the images by architecture, or fail with all that is missing."""
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        if self._task.args.get("state") == "hosts":
            return {**result, "hosts": representatives(self._kinds(task_vars or {}))}
        place = str(self._task.args.get("mirror") or "")
        try:
            mirror = Mirror(self._whole(place))
            images, missing = survey(noted_needs((task_vars or {})["ansible_play_hosts"]), mirror)
        except ArtifactError as error:
            return {**result, "failed": True, **error.as_result()}
        if missing:
            return {**result, "failed": True, "missing": missing, **incomplete(missing, mirror).as_result()}
        return {**result, "images": images}

    def _kinds(self, variables: dict[str, Any]) -> Iterator[tuple[str, str, bool, dict[str, Any]]]:
        every, groups = variables["hostvars"], variables["groups"]
        members = {host for group in CLUSTER for host in groups.get(group, [])}
        for host in variables["ansible_play_hosts"]:
            known = every.raw_get(host)
            machine = (known.get("ansible_facts") or {}).get("architecture", "")
            yield host, ARCHS.get(machine, machine), host in members, known

    def _whole(self, place: str) -> str:
        if not place:
            raise ArtifactError(
                "AIRGAP_002", "the site has no internet (skerry_airgap) and no mirror is set; nothing was changed",
                "set skerry_mirror to the directory, or the address, of a mirror that `skerry mirror build` filled",
            )
        return place if is_url(place) else str(self._loader.path_dwim(os.path.expanduser(place)))
