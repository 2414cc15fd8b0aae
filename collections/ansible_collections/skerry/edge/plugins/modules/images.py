#!/usr/bin/python
"""See that container engines of a host have the images of archives that lie on it (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: images
short_description: See that k3s or Docker has the images of archives on the host
description:
  - For k3s the archives lie in C(agent/images), which k3s imports at its start and watches while it runs. The module
    waits until a k3s that runs has all of them; one that does not run will import them when it starts.
  - For Docker every archive is loaded that was not, or whose image is gone or has another content.
  - Archives that an earlier run was given and this one is not are removed from the host; their images stay.
options:
  k3s:
    description: Archives for k3s, each with C(dest) (its path) and C(reference) (the image's name in full).
    type: list
    elements: dict
    default: []
  docker:
    description: Archives for Docker, likewise.
    type: list
    elements: dict
    default: []
  timeout:
    description: Seconds until k3s must have imported all, and for each C(docker load).
    type: int
    default: 300
  record:
    description: Where the host notes what it was given.
    type: path
    default: /var/lib/skerry/images.json
author:
  - The Skerry authors
extends_documentation_fragment:
  - skerry.edge.attributes.no_diff
attributes:
  check_mode:
    description: Nothing is loaded or removed.
  diff_mode:
    description: The result names what was loaded and removed.
"""

EXAMPLES = r"""
- name: See that k3s has them
  skerry.edge.images:
    k3s:
      - dest: /var/lib/rancher/k3s/agent/images/pause.tar
        reference: docker.io/rancher/mirrored-pause:3.6
"""

RETURN = r"""
loaded:
  description: References that Docker had to load.
  type: list
  elements: str
  returned: success
removed:
  description: Archives that were taken away.
  type: list
  elements: str
  returned: success
waited:
  description: Seconds until k3s had imported everything; 0 when it does not run.
  type: float
  returned: success
"""

import json
import os
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.artifacts import ArtifactError
from ansible_collections.skerry.edge.plugins.module_utils.files import replace_file

K3S = "/usr/local/bin/k3s"
SOCKET = "/run/k3s/containerd/containerd.sock"
#: With this file k3s remembers what it has imported, and skips it at its next start. But at each start it takes the
#: pins off all images first, and only an import puts them back: from then on a full disk lets the kubelet delete them,
#: the pause image among them, for good (seen with v1.35.0+k3s3). So it is not made, and taken away where it lies.
CACHE = ".cache.json"
#: What k3s puts on images that it imports: the kubelet does not clean them up.
PINNED = ("io.cattle.k3s.pinned=pinned", "io.cri-containerd.pinned=pinned")


def read_record(path):
    """What earlier runs were given: {engine: {archive: {reference, identity, image}}}; a lost record costs a load."""
    try:
        with open(path, encoding="utf-8") as stream:
            known = json.load(stream)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def write_record(path, record):
    """Keep what was given, for later runs."""
    replace_file(path, json.dumps(record, indent=1, sort_keys=True), 0o644)


def run(command, timeout):
    """(exit code, standard output, standard error); a deadline that passes counts as exit code 124."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return 124, "", f"no end within {timeout} s"
    return done.returncode, done.stdout, done.stderr


def identity(path):
    """What changes when an archive is replaced."""
    stats = os.stat(path)
    return [stats.st_size, stats.st_mtime_ns, stats.st_ino]


class K3s:
    """k3s's containerd."""

    def __init__(self, module):
        self._module = module
        self.waited = 0.0
        self.forgot = False

    def _has(self):
        code, out, error = run([K3S, "ctr", "-n", "k8s.io", "images", "ls", "-q"], 60)
        if code != 0:
            raise ArtifactError(
                "IMAGES_001",
                f"k3s does not list its images: {error.strip()[-300:] or code}",
                "journalctl -u k3s -u k3s-agent shows why containerd does not answer",
            )
        return set(out.split())

    def ensure(self, archives, known):
        """See that all are there if k3s runs; one that does not will import them. Returns what to note of each."""
        if not archives:
            return {}
        cache = os.path.join(os.path.dirname(archives[0]["dest"]), CACHE)
        self.forgot = os.path.exists(cache)
        if self._module.check_mode:
            return known
        if self.forgot:
            os.unlink(cache)
        noted = {archive["dest"]: {"identity": identity(archive["dest"])} for archive in archives}
        if os.path.exists(SOCKET) and os.path.exists(K3S):
            there = self._has()
            for archive in archives:
                if archive["reference"] in there and known.get(archive["dest"]) != noted[archive["dest"]]:
                    self._import(archive)
            self._wait({archive["reference"] for archive in archives})
        return noted

    def _import(self, archive):
        """Import a replaced archive: k3s takes one of the same size for what it knows (seen with v1.35.0+k3s3)."""
        path, reference = archive["dest"], archive["reference"]
        timeout = self._module.params["timeout"]
        code, out, error = run([K3S, "ctr", "-n", "k8s.io", "images", "import", path], timeout)
        if code == 0:
            code, out, error = run([K3S, "ctr", "-n", "k8s.io", "images", "label", reference, *PINNED], 60)
        if code != 0:
            raise ArtifactError(
                "IMAGES_005",
                f"k3s could not import {reference} from {path}: {(error or out).strip()[-300:]}",
                "df -h /var/lib/rancher; check the mirror with `skerry mirror verify`",
            )

    def _wait(self, wanted):
        start = time.monotonic()
        missing = wanted - self._has()
        while missing:
            self.waited = time.monotonic() - start
            if self.waited > self._module.params["timeout"]:
                raise ArtifactError(
                    "IMAGES_002",
                    f"k3s has not imported {', '.join(sorted(missing)[:5])} within {self._module.params['timeout']} s",
                    "journalctl -u k3s -u k3s-agent | grep -i import; df -h /var/lib/rancher; a k3s before v1.32 "
                    "imports at its start only: systemctl restart k3s-agent",
                )
            time.sleep(1)
            missing = wanted - self._has()


class Docker:
    """The Docker daemon."""

    def __init__(self, module):
        self._module = module
        self.loaded = []

    @staticmethod
    def _image(reference):
        code, out, _ = run(["docker", "image", "inspect", "--format", "{{.Id}}", reference], 60)
        return out.strip() if code == 0 else ""

    def ensure(self, archives, known):
        """Load what is not there; returns what to note of each archive."""
        noted = {}
        for archive in archives:
            path, reference = archive["dest"], archive["reference"]
            before = known.get(path, {})
            image = self._image(reference)
            there = os.path.exists(path)
            if image and there and before.get("identity") == identity(path) and before.get("image") == image:
                noted[path] = before
                continue
            self.loaded.append(reference)
            if not self._module.check_mode:
                noted[path] = {"identity": identity(path), "image": self._load(path, reference)}
        return noted

    def _load(self, path, reference):
        code, out, error = run(["docker", "load", "--quiet", "--input", path], self._module.params["timeout"])
        image = self._image(reference) if code == 0 else ""
        if not image:
            raise ArtifactError(
                "IMAGES_003",
                f"Docker could not load {reference} from {path}: {(error or out).strip()[-300:]}",
                "systemctl status docker; df -h /var/lib/docker; check the mirror with `skerry mirror verify`",
            )
        return image


def remove_unwanted(known, archives, check_mode):
    """Take archives away that were given before and are not wanted now; returns their paths."""
    wanted = {archive["dest"] for archive in archives}
    removed = [path for path in sorted(known) if path not in wanted and os.path.lexists(path)]
    if not check_mode:
        for path in removed:
            os.unlink(path)
    return removed


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "k3s": {"type": "list", "elements": "dict", "default": []},
            "docker": {"type": "list", "elements": "dict", "default": []},
            "timeout": {"type": "int", "default": 300},
            "record": {"type": "path", "default": "/var/lib/skerry/images.json"},
        },
        supports_check_mode=True,
    )
    path = module.params["record"]
    record = read_record(path)
    fresh, removed, workers = {}, [], {"k3s": K3s(module), "docker": Docker(module)}
    try:
        for engine, worker in workers.items():
            archives, known = module.params[engine], record.get(engine, {})
            removed += remove_unwanted(known, archives, module.check_mode)
            noted = worker.ensure(archives, known)
            if archives:
                fresh[engine] = {archive["dest"]: noted.get(archive["dest"], {}) for archive in archives}
    except ArtifactError as error:
        module.fail_json(**error.as_result())
    except OSError as error:
        cause = f"{error.filename}: {error.strerror}"
        failure = ArtifactError("IMAGES_004", cause, "check rights and free space there (df -h), then run again")
        module.fail_json(**failure.as_result())
    if fresh != record and not module.check_mode:
        write_record(path, fresh)
    loaded = workers["docker"].loaded
    waited = round(workers["k3s"].waited, 1)
    changed = bool(removed or loaded or workers["k3s"].forgot)
    module.exit_json(changed=changed, loaded=loaded, removed=removed, waited=waited)


if __name__ == "__main__":
    main()
