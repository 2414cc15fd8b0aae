"""The controller's part of skerry.edge.artifact: finds sources, verifies a mirror directory, sends what differs."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from ansible import constants
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible_collections.skerry.edge.plugins.module_utils.artifacts import (
    LOCK_NAME,
    TASK_OPTIONS,
    ArtifactError,
    checksum_differs,
    expected_digest,
    file_digest,
    is_url,
    lock_index,
    mirror_url,
    plain_form,
    relative_path,
)
from ansible_collections.skerry.edge.plugins.plugin_utils.mirror_needs import note_need

MODULE = "skerry.edge.artifact"
DESCRIBED = ("artifacts", "charts", "images", "images_for", "image_lists")


def cached_digest(path):
    """SHA-256 of a controller's file, computed once a run: Ansible's temporary folder of the run keeps it."""
    stats = os.stat(path)
    key = json.dumps([str(path), stats.st_size, stats.st_mtime_ns, stats.st_ctime_ns, stats.st_ino])
    store = Path(constants.DEFAULT_LOCAL_TMP) / "skerry-digests.json"
    with open(store, "a+", encoding="utf-8") as stream:
        # Workers of many hosts ask at once; the lock lets one read the file and the others its answer.
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        for line in stream:
            known, digest = json.loads(line)
            if known == key:
                return digest
        digest = file_digest(path)
        stream.write(json.dumps([key, digest]) + "\n")
        return digest


class ActionModule(ActionBase):
    """See the module's documentation."""

    # A temporary folder on the host is made only when something has to be sent.
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True
    _requires_connection = True

    def run(self, tmp=None, task_vars=None):
        """Place the task's artifacts; coded failures become the task's result."""
        result = super().run(tmp, task_vars)
        self._variables = task_vars or {}
        try:
            self._options = self._validated()
            if self._options["state"] == "described":
                listed = {key: self._options[key] for key in DESCRIBED}
                note_need(self._variables, listed)
                return {**result, "changed": False, **listed}
            wanted = self._options["artifacts"] if self._options["state"] == "present" else []
            return {**result, **self._place([self._resolve(artifact) for artifact in wanted])}
        except ArtifactError as error:
            return {**result, "failed": True, "changed": False, **error.as_result()}
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _validated(self):
        checked = ArgumentSpecValidator(TASK_OPTIONS).validate(self._task.args)
        if checked.error_messages:
            raise ArtifactError(
                "ARTIFACT_007",
                "; ".join(checked.error_messages),
                "compare the artifact's keys with the documentation of skerry.edge.artifact",
            )
        options = checked.validated_parameters
        for artifact in options["artifacts"]:
            relative_path(artifact)  # names that cannot be part of a path are refused whatever the source
        return options

    # -- where an artifact comes from ----------------------------------------------------------------------------

    def _resolve(self, artifact):
        mirror = self._options["mirror"]
        try:
            if not mirror:
                return self._from_upstream(artifact)
            if is_url(mirror):
                url = mirror_url(mirror, artifact)
                lock = mirror.rstrip("/") + "/" + LOCK_NAME
                return {"url": url, "origin": url, "mirror": mirror, "lock_url": lock}
            return self._from_directory(artifact, Path(self._loader.path_dwim(os.path.expanduser(mirror))))
        except ArtifactError as error:
            if artifact["optional"] and error.code in ("ARTIFACT_001", "ARTIFACT_002"):
                return {"absence": str(error)}
            raise

    def _from_upstream(self, artifact):
        digest, checksum_url = expected_digest(artifact, None)
        if not artifact["url"]:
            raise ArtifactError(
                "ARTIFACT_001",
                f"{relative_path(artifact)} has no upstream address and no mirror is set",
                "set skerry_mirror to a mirror that has it (`skerry mirror add`)",
            )
        if not digest and not checksum_url:
            raise ArtifactError(
                "ARTIFACT_002",
                f"no checksum is known for {artifact['url']}",
                "give the artifact's SHA-256, or use a mirror, whose lock has it",
            )
        return {"sha256": digest, "checksum_url": checksum_url, "origin": artifact["url"]}

    def _from_directory(self, artifact, mirror):
        plain = plain_form(artifact)
        if plain and (mirror / relative_path(plain)).is_file():
            return {"file": plain["file"], "extract": "", "checksum": "", **self._from_directory(plain, mirror)}
        path = mirror / relative_path(artifact)
        name = f"{artifact['component']} {artifact['version']} {artifact['arch']}"
        if not path.is_file():
            raise ArtifactError(
                "ARTIFACT_001",
                f"the mirror {mirror} has no {relative_path(artifact)}",
                f"fill it with `skerry mirror build`, or put a file of {name} there with `skerry mirror add`",
            )
        digest, _ = expected_digest(artifact, self._lock(mirror).get(relative_path(artifact)))
        if not digest:
            raise ArtifactError(
                "ARTIFACT_002",
                f"the lock of mirror {mirror} does not know {relative_path(artifact)}",
                "put files there with `skerry mirror add` or `skerry mirror build` only",
            )
        actual = cached_digest(path)
        if actual != digest:
            raise checksum_differs(str(path), actual, digest)
        return {"sha256": digest, "size": path.stat().st_size, "local": str(path), "origin": str(path)}

    def _lock(self, mirror):
        lock = mirror / LOCK_NAME
        try:
            return lock_index(lock.read_text(encoding="utf-8"), str(lock))
        except FileNotFoundError:
            return {}

    # -- on the host ---------------------------------------------------------------------------------------------

    def _module(self, resolved, phase):
        arguments = {**self._options, "resolved": resolved, "phase": phase}
        return self._execute_module(module_name=MODULE, module_args=arguments, task_vars=self._variables)

    def _place(self, resolved):
        if not any(item.get("local") for item in resolved):
            return self._module(resolved, "apply")
        answer = self._module([{k: v for k, v in item.items() if k != "local"} for item in resolved], "plan")
        needs = answer.pop("needs", [])
        if answer.get("failed") or not needs:
            return answer
        sent = self._send(sorted({resolved[index]["local"] for index in needs if "local" in resolved[index]}))
        for item in resolved:
            local = item.pop("local", None)
            if local in sent:
                item["src"] = sent[local]
        answer = self._module(resolved, "apply")
        answer.pop("needs", None)
        return answer

    def _send(self, paths):
        """Send controller's files into the host's temporary folder: {local path: path on the host}."""
        self._make_tmp_path()
        folder = self._connection._shell.tmpdir
        sent = {}
        for number, path in enumerate(paths):
            remote = self._connection._shell.join_path(folder, f"artifact-{number}")
            try:
                self._transfer_file(path, remote)
            except AnsibleError as error:
                raise ArtifactError(
                    "ARTIFACT_009",
                    f"{path} could not be sent to {folder} of the host ({error}); nothing was replaced",
                    "check free space there (df -h) and the connection, then run again; "
                    "ansible_remote_tmp names another folder",
                ) from error
            sent[path] = remote
        self._fixup_perms2((folder, *sent.values()))
        return sent
