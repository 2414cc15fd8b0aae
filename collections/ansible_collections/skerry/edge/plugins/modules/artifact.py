#!/usr/bin/python
"""Place verified artifacts on a host (see DOCUMENTATION); the action plugin does the controller's part."""

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact
short_description: Fetch, verify and place upstream artifacts
description:
  - Places files from a mirror directory of the controller, from a mirror URL or from upstream's address.
  - All artifacts of a task are fetched and verified beside their places first; only then are they renamed. A wrong
    checksum, a broken archive or a full disk leaves everything as it was.
  - A file that is already right is neither sent nor downloaded.
  - Proxies are taken from the task's environment (C(https_proxy) and so on).
options:
  artifacts:
    description:
      - The artifacts. Each has C(component), C(version), C(arch), C(file) (its place in a mirror) and C(dest).
      - C(url) is upstream's address, used when there is no mirror.
      - C(checksum) is C(sha256:<hex>), C(sha256:<url of a checksum file>), or empty where the mirror's lock has it.
      - C(extract) names the one member of a tar (gz, xz, bz2, zst) or zip to place instead of the file itself.
      - C(links) is a list of C(path) and C(unless_command); no link is made where another command of that name exists.
      - C(optional) true reports an artifact that no source has, or that cannot be reached, as missing; nothing fails.
      - C(reference) is the name of an image whose archive it is, for whoever reads the list as well; not used here.
      - C(mode) (default C(0644)), C(owner), C(group) as in M(ansible.builtin.file).
    type: list
    elements: dict
    default: []
  charts:
    description:
      - Only with C(state=described). Charts as a role installs them, each with C(chart) (a name, or an oci:// address),
        C(version), C(repo), C(release), C(namespace) and C(values).
    type: list
    elements: dict
    default: []
  images:
    description: Only with C(state=described). References of images that the role's workloads run.
    type: list
    elements: str
    default: []
  images_for:
    description: Only with C(state=described). Whose images they are; k3s has them on every node of the cluster.
    type: str
    choices: [k3s, docker]
    default: k3s
  image_lists:
    description:
      - Only with C(state=described). Files that list images, one reference a line, each with C(component), C(version),
        C(file), C(url), C(checksum) and C(without), patterns of repositories that are not wanted (C(*traefik*)).
    type: list
    elements: dict
    default: []
  mirror:
    description: A directory on the controller, an http(s) URL with the same layout, or empty for upstream.
    type: str
    default: ""
  state:
    description:
      - C(present) places the artifacts, C(absent) removes them and their links.
      - C(described) only returns what would be placed; it contacts no host (`skerry mirror build` uses it).
    type: str
    choices: [present, absent, described]
    default: present
  record:
    description: Where the host notes what it placed, so that an archive is not fetched again to compare a member.
    type: path
    default: /var/lib/skerry/artifacts.json
  timeout:
    description: Seconds without an answer after which a download counts as broken.
    type: int
    default: 30
  attempts:
    description: How often a broken download is taken up again.
    type: int
    default: 3
author:
  - The Skerry authors
extends_documentation_fragment:
  - skerry.edge.attributes
attributes:
  check_mode:
    description: Nothing is fetched or changed.
  diff_mode:
    description: Shows digests, never content.
"""

EXAMPLES = r"""
- name: Place k3s
  skerry.edge.artifact:
    mirror: "{{ k3s_mirror }}"
    artifacts:
      - component: k3s
        version: v1.36.5+k3s1
        arch: amd64
        file: k3s
        url: https://github.com/k3s-io/k3s/releases/download/v1.36.5%2Bk3s1/k3s
        checksum: sha256:https://github.com/k3s-io/k3s/releases/download/v1.36.5%2Bk3s1/sha256sum-amd64.txt
        dest: /usr/local/bin/k3s
        mode: "0755"
        links:
          - path: /usr/local/bin/kubectl
            unless_command: kubectl
"""

RETURN = r"""
results:
  description: One entry per artifact, in order.
  returned: success
  type: list
  elements: dict
  contains:
    dest: {description: The file's place., type: str}
    sha256: {description: Digest of what lies there., type: str}
    changed: {description: Whether it was (or would be) changed., type: bool}
    source: {description: Where it comes from., type: str}
    missing: {description: True where an optional artifact was in no source., type: bool}
    error: {description: Why it is missing., type: str}
"""

import json
import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.artifact_fetch import (
    Staging,
    check_space,
    download,
    extract,
    fetch_text,
    must_answer,
    no_space,
    place_copy,
)
from ansible_collections.skerry.edge.plugins.module_utils.artifacts import (
    TASK_OPTIONS,
    ArtifactError,
    checksum_differs,
    digest_from_list,
    expected_digest,
    file_digest,
    lock_index,
    mirror_url,
    plain_form,
    relative_path,
    request_id,
)
from ansible_collections.skerry.edge.plugins.module_utils.files import replace_file

#: Errors that an optional artifact may have: nobody has it, or it cannot be reached.
ABSENCE = ("ARTIFACT_001", "ARTIFACT_002", "ARTIFACT_004")
COMMAND_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"


class Record:
    """What this host placed: {dest: {request, archive, sha256, identity}}; a cache, its loss costs a fetch."""

    def __init__(self, path):
        self.path = path
        self.entries = {}
        try:
            with open(path, encoding="utf-8") as stream:
                entries = json.load(stream)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            entries = {}
        if isinstance(entries, dict):
            self.entries = {key: value for key, value in entries.items() if isinstance(value, dict)}
        self._before = json.dumps(self.entries, sort_keys=True)

    @staticmethod
    def identity(path):
        """What changes when a file is written: size, times, inode."""
        stats = os.stat(path)
        return [stats.st_size, stats.st_mtime_ns, stats.st_ctime_ns, stats.st_ino]

    def digest(self, dest):
        """Digest of what lies at ``dest`` or None; an untouched file that was placed by us is not read again."""
        try:
            identity = self.identity(dest)
        except (FileNotFoundError, NotADirectoryError):
            return None
        entry = self.entries.get(dest)
        if entry and entry.get("identity") == identity:
            return entry.get("sha256")
        digest = file_digest(dest)
        if entry and entry.get("sha256") == digest:
            entry["identity"] = identity
        return digest

    def note(self, dest, request, archive, digest):
        """Note what was just placed."""
        self.entries[dest] = {
            "request": request,
            "archive": archive,
            "sha256": digest,
            "identity": self.identity(dest),
        }

    def save(self):
        """Write the record when it changed."""
        text = json.dumps(self.entries, sort_keys=True, indent=1)
        if json.dumps(self.entries, sort_keys=True) == self._before:
            return
        try:
            replace_file(self.path, text + "\n", 0o644)
        except OSError as error:
            raise no_space(self.path, error) from error


class Placer:
    """One task's work on this host."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.record = Record(self.params["record"])
        self.locks = {}
        self.archives = {}
        self.results = []
        self.diff = []
        self.changed = False

    # -- what is wanted ------------------------------------------------------------------------------------------

    def lock_entry(self, item):
        """The artifact's entry in the lock of a mirror URL, or None; a member that lies there by itself comes first."""
        url = item["lock_url"]
        if url not in self.locks:
            self.locks[url] = lock_index(fetch_text(url, self.params["timeout"]), url)
        plain = plain_form(item)
        if plain and relative_path(plain) in self.locks[url]:
            item.update(plain)
            item["url"] = item["origin"] = mirror_url(item["mirror"], plain)
        return self.locks[url].get(relative_path(item))

    def expect(self, item):
        """Fill in ``sha256`` of the item's file from a mirror's lock, where the controller could not."""
        if item.get("lock_url"):
            item["sha256"], item["checksum_url"] = expected_digest(item, self.lock_entry(item))
            if not item["sha256"]:
                raise ArtifactError(
                    "ARTIFACT_002",
                    "{} has no checksum in {}".format(relative_path(item), item["lock_url"]),
                    "fill the mirror with `skerry mirror build` or `skerry mirror add`",
                )

    def is_current(self, item):
        """Whether the file in place is the wanted one, as far as can be told without fetching anything."""
        actual = self.record.digest(item["dest"])
        if actual is None:
            return False
        entry = self.record.entries.get(item["dest"], {})
        noted = entry.get("sha256") == actual
        if not item.get("sha256"):
            return noted and entry.get("request") == request_id(item)
        if item["extract"]:
            return noted and entry.get("archive") == item["sha256"] and entry.get("member") == item["extract"]
        return actual == item["sha256"]

    # -- fetching ------------------------------------------------------------------------------------------------

    def fetch(self, item, handle):
        """Bring the item's own file (not a member of it) into a descriptor, verified; returns its digest."""
        if item.get("src"):
            return place_copy(item["src"], handle, item["sha256"])
        expected = item.get("sha256")
        if not expected:
            listing = fetch_text(item["checksum_url"], self.params["timeout"])
            expected = digest_from_list(listing, item["url"].rsplit("/", 1)[-1], item["checksum_url"])
        digest = download(item["url"], handle, self.params["timeout"], self.params["attempts"])
        if digest != expected:
            raise checksum_differs(item["url"], digest, expected)
        return digest

    def archive(self, item, staging):
        """The verified archive of an item with ``extract``: (path, digest); fetched once for all its members."""
        key = item.get("src") or item["url"]
        if key not in self.archives:
            if item.get("src"):
                digest = file_digest(item["src"])
                if digest != item["sha256"]:
                    raise checksum_differs(item["src"], digest, item["sha256"])
                self.archives[key] = (item["src"], digest)
            else:
                with staging.file(item["dest"]) as (handle, path):
                    self.archives[key] = (path, self.fetch(item, handle))
        return self.archives[key]

    def stage(self, item, staging):
        """Make the new file beside its place; fills ``staged``, ``archive`` and ``digest``."""
        archive = self.archive(item, staging) if item["extract"] else None
        with staging.file(item["dest"]) as (handle, path):
            if archive:
                item["archive"] = archive[1]
                item["digest"] = extract(archive[0], item["file"], item["extract"], handle)
            else:
                item["archive"] = item["digest"] = self.fetch(item, handle)
            os.fsync(handle)
        item["staged"] = path

    # -- placing -------------------------------------------------------------------------------------------------

    def attributes(self, item, path):
        """Set mode, owner, group and SELinux context as for ``dest``, on ``path``; whether something changed."""
        wanted = self.module.load_file_common_arguments(
            {key: item.get(key) for key in ("mode", "owner", "group")}, path=item["dest"]
        )
        wanted["path"] = path
        return self.module.set_fs_attributes_if_different(wanted, False)

    def link(self, link, dest):
        """Make one symbolic link; whether something changed (or would)."""
        path, command = link["path"], link["unless_command"]
        if os.path.islink(path) and os.readlink(path) == dest:
            return False
        if command:
            found = shutil.which(command, path=COMMAND_PATH)
            if found or os.path.lexists(path):
                return False
        elif os.path.lexists(path) and not os.path.islink(path):
            raise ArtifactError(
                "ARTIFACT_008",
                f"{path} is in the way of a link to {dest}",
                f"move {path} away if it is not needed, then run again",
            )
        if not self.module.check_mode:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            beside = f"{path}.skerry-new"
            if os.path.lexists(beside):
                os.unlink(beside)
            os.symlink(dest, beside)
            os.replace(beside, path)
        return True

    def finish(self, item):
        """Rename a staged file into place, set attributes and links, note it; returns the item's result."""
        dest, fresh = item["dest"], not item["current"]
        before = self.record.digest(dest)
        checking = self.module.check_mode
        changed = fresh
        if fresh and not checking:
            self.attributes(item, item["staged"])
            os.replace(item["staged"], dest)
            self.record.note(dest, request_id(item), item["archive"], item["digest"])
            self.record.entries[dest]["member"] = item["extract"]
        elif not fresh:
            changed = self.attributes(item, dest)
        linked = [link["path"] for link in item["links"] if self.link(link, dest)]
        # What check mode would fetch is known by its digest only where it is no member of an archive.
        foreseen = item.get("digest") or ("" if item["extract"] else item.get("sha256")) or None
        after = foreseen if fresh else before
        self.show(item, before, after, fresh, linked)
        return {
            "dest": dest,
            "sha256": after,
            "changed": bool(changed or linked),
            "source": item.get("origin") or item.get("url") or "",
            "missing": False,
        }

    def show(self, item, before, after, fresh, linked):
        """Add the item to the diff: digests and links, never content."""
        if not fresh and not linked:
            return
        version = "{} {} {}".format(item["component"], item["version"], item["extract"] or item["file"])
        new = "{}\nsha256 {}\n".format(version, after or "known when fetched") if fresh else ""
        old = f"sha256 {before}\n" if before and fresh else ""
        new += "".join(f"link {path}\n" for path in linked)
        self.diff.append({"before_header": item["dest"], "after_header": item["dest"], "before": old, "after": new})

    # -- the whole task ------------------------------------------------------------------------------------------

    def survey(self, items):
        """Compare every item with the host; optional ones that nobody has are marked missing."""
        for item in items:
            if os.path.isdir(item["dest"]):
                raise ArtifactError(
                    "ARTIFACT_008",
                    "{} is a directory, {} should lie there".format(item["dest"], item["file"]),
                    "remove the directory or change the variable that names the place",
                )
            try:
                if not item.get("absence"):
                    self.expect(item)
            except ArtifactError as error:
                self.miss(item, error)
            item["current"] = bool(item.get("absence")) or self.is_current(item)

    def miss(self, item, error):
        """Note that an optional item is missing; for others the error goes on."""
        if not item["optional"] or error.code not in ABSENCE:
            raise error
        item["absence"] = str(error)
        item["current"] = True

    def present(self, items):
        """Fetch and verify everything first, then place everything."""
        with Staging() as staging:
            for item in items:
                if item["current"]:
                    continue
                try:
                    if not self.module.check_mode:
                        self.stage(item, staging)
                    elif item["optional"] and item.get("url"):
                        # Whether an optional artifact would come is known only by asking for it.
                        must_answer(item.get("checksum_url") or item["url"], self.params["timeout"])
                except ArtifactError as error:
                    self.miss(item, error)
            for item in items:
                if item.get("absence"):
                    gone = {"dest": item["dest"], "sha256": None, "changed": False, "source": ""}
                    self.results.append({**gone, "missing": True, "error": item["absence"]})
                    continue
                self.results.append(self.finish(item))
        if not self.module.check_mode:
            self.record.save()

    def absent(self, items):
        """Remove files, the links that lead to them, and what was noted of them."""
        for item in items:
            dest = item["dest"]
            links = [
                link["path"]
                for link in item["links"]
                if os.path.islink(link["path"]) and os.readlink(link["path"]) == dest
            ]
            gone = [path for path in [dest, *links] if os.path.lexists(path)]
            if not self.module.check_mode:
                for path in gone:
                    os.unlink(path)
                self.record.entries.pop(dest, None)
            if gone:
                header = {"before_header": dest, "after_header": dest}
                self.diff.append({**header, "before": "".join(path + "\n" for path in gone), "after": ""})
            self.results.append({"dest": dest, "sha256": None, "changed": bool(gone), "source": "", "missing": False})
        if not self.module.check_mode:
            self.record.save()


def check_places(items):
    """Fail before anything is sent where a file system has too little room."""
    needed = {}
    for item in items:
        if not item["current"] and item.get("size") and not item["extract"]:
            needed.setdefault(os.path.dirname(item["dest"]), []).append(item)
    for group in needed.values():
        check_space(group[0]["dest"], sum(item["size"] for item in group))


def main():
    """Run the module."""
    spec = dict(TASK_OPTIONS)
    # Filled by the action plugin, which knows the controller's side.
    spec["resolved"] = {"type": "list", "elements": "dict", "default": []}
    spec["phase"] = {"type": "str", "choices": ["plan", "apply"], "default": "apply"}
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    placer = Placer(module)
    items = [{**item, **known} for item, known in zip(module.params["artifacts"], module.params["resolved"])]
    try:
        if module.params["state"] == "absent":
            placer.absent([dict(item) for item in module.params["artifacts"]])
        else:
            placer.survey(items)
            if module.params["phase"] == "plan":
                needs = [index for index, item in enumerate(items) if not item["current"]]
                if needs and not module.check_mode:
                    check_places(items)
                    module.exit_json(changed=False, needs=needs)
            placer.present(items)
    except ArtifactError as error:
        module.fail_json(**error.as_result())
    changed = any(result["changed"] for result in placer.results)
    module.exit_json(changed=changed, results=placer.results, diff=placer.diff, needs=[])


if __name__ == "__main__":
    main()
