"""What hosts need of a mirror, and whether it is there: all of it on the controller."""

from __future__ import annotations

import fcntl
import fnmatch
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible import constants
from ansible_collections.skerry.edge.plugins.module_utils.artifacts import (
    LOCK_NAME,
    ArtifactError,
    is_url,
    lock_index,
    mirror_url,
    plain_form,
    relative_path,
)

#: The component under which all images lie.
IMAGES = "images"
ARCHS = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armv7l": "arm", "armv8l": "arm"}
TIMEOUT = 20
#: Variables that say how a host is reached or called, or what a run found out, not what it needs.
_IRRELEVANT = (
    "ansible_", "inventory_", "sandbox_", "group_names", "groups", "hostvars", "k3s_node_", "skerry_region",
    "skerry_zone", "__", "omit", "module_setup", "gather_subset", "discovered_interpreter",
)
_NETWORK = (urllib.error.URLError, ConnectionError, TimeoutError)
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
#: A reference that has all its parts.
_FULL = re.compile(
    rf"^[A-Za-z0-9]+(?:[.-]+[A-Za-z0-9]+)*(?::[0-9]+)?(?:/{_PART})+"
    r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?:@sha256:[0-9a-f]{64})?$"
)


def full_reference(text: str) -> str:
    """An image's name as engines look it up: docker.io/, library/ and :latest supplied; a digest stands for the tag."""
    rest, at, digest = text.strip().partition("@")
    first, slash, behind = rest.partition("/")
    registry, path = (first, behind) if slash and re.search(r"[.:]|^localhost$", first) else ("docker.io", rest)
    path, _, tag = path.partition(":")
    if registry in ("docker.io", "index.docker.io"):
        registry, path = "docker.io", path if "/" in path else f"library/{path}"
    if not _FULL.match(f"{registry}/{path}{f':{tag}' if tag else ''}{at}{digest}"):
        raise ArtifactError(
            "AIRGAP_004", f"'{text}' is no reference of an image",
            "write it as registry/repository:tag or registry/repository@sha256:<64 hex digits>",
        )
    return f"{registry}/{path}@{digest}" if digest else f"{registry}/{path}:{tag or 'latest'}"


def image_artifact(reference: str, arch: str) -> dict[str, str]:
    """The artifact of an image, by its full reference: images/<tag>/<arch>/<name, + for />.tar."""
    name, at, digest = reference.partition("@")
    tag = digest.replace(":", "-") if at else ""
    if not tag:
        name, _, tag = reference.rpartition(":")
    file = name.replace("/", "+").replace(":", "~") + ".tar"
    return {"component": IMAGES, "version": tag, "arch": arch, "file": file}


def chart_artifact(chart: dict[str, Any], ending: str = ".tgz") -> dict[str, str]:
    """The artifact of a chart, or of the list of its images (``.images.txt``)."""
    name = chart["chart"].rstrip("/").rpartition("/")[2]
    file = f"{name}-{chart['version']}{ending}"
    return {"component": name, "version": chart["version"], "arch": "noarch", "file": file}


class Mirror:
    """A mirror as the controller sees it: a directory, or the address of a server.

    Raises:
        ArtifactError: AIRGAP_003 when there is no lock, ARTIFACT_007 when it cannot be understood.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.remote = is_url(place)
        try:
            self._lock = lock_index(self._read(LOCK_NAME), f"{place.rstrip('/')}/{LOCK_NAME}")
        except (OSError, *_NETWORK) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise ArtifactError(
                "AIRGAP_003", f"{place} is no mirror that this machine can read: {LOCK_NAME}: {reason}",
                "name in skerry_mirror the directory that `skerry mirror build` filled, or an address that serves it",
            ) from error

    def _read(self, path: str) -> str:
        if not self.remote:
            return (Path(self.place) / path).read_text(encoding="utf-8")
        with urllib.request.urlopen(f"{self.place.rstrip('/')}/{path}", timeout=TIMEOUT) as answer:
            text: str = answer.read().decode("utf-8", "replace")
            return text

    def holds(self, artifact: dict[str, Any]) -> bool:
        """Whether the lock knows it, in the role's form or as the plain file that does as well."""
        plain = plain_form(artifact)
        return relative_path(artifact) in self._lock or bool(plain and relative_path(plain) in self._lock)

    def gone(self, artifact: dict[str, Any]) -> bool:
        """Whether the lock knows it and the file is not there, or has another size."""
        path = relative_path(artifact)
        if path not in self._lock:
            plain = plain_form(artifact)
            artifact, path = plain, relative_path(plain)
        wanted = self._lock[path].get("size")
        if self.remote:
            request = urllib.request.Request(mirror_url(self.place, artifact), method="HEAD")
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                    size = int(answer.headers.get("Content-Length") or wanted)
            except _NETWORK:
                return True
        else:
            file = Path(self.place) / path
            size = file.stat().st_size if file.is_file() else -1
        return wanted is not None and size != wanted

    def lines(self, artifact: dict[str, Any]) -> list[str]:
        """References in a list of images; nothing when the mirror has no such list."""
        if not self.holds(artifact):
            return []
        path = mirror_url("", artifact).lstrip("/") if self.remote else relative_path(artifact)
        try:
            lines = [line.strip() for line in self._read(path).splitlines()]
        except (OSError, *_NETWORK):
            return []  # `gone` tells
        return [line for line in lines if line and not line.startswith("#")]


def _notes() -> Path:
    """Where the answers of one run are kept: Ansible's temporary folder of the run, shared by its workers."""
    return Path(constants.DEFAULT_LOCAL_TMP) / "skerry-needs.jsonl"


def note_need(variables: dict[str, Any], listed: dict[str, Any]) -> None:
    """Remember what a role said of a host (its task's variables), for `noted_needs` of the same run."""
    arch = ARCHS.get((variables.get("ansible_facts") or {}).get("architecture", ""), "")
    charts = [{"chart": chart["chart"], "version": chart["version"]} for chart in listed["charts"]]
    line = json.dumps([variables.get("inventory_hostname", ""), arch, {**listed, "charts": charts}])
    with _notes().open("a", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.write(line + "\n")


def noted_needs(hosts: Iterable[str]) -> list[tuple[str, str, dict[str, Any]]]:
    """(host, architecture, what a role said), for these hosts; each different answer of an architecture once."""
    wanted, seen, needs = set(hosts), set(), []
    lines = _notes().read_text(encoding="utf-8").splitlines() if _notes().exists() else []
    for host, arch, listed in map(json.loads, lines):
        mark = (arch, json.dumps(listed, sort_keys=True))
        if host in wanted and mark not in seen:
            seen.add(mark)
            needs.append((host, arch, listed))
    return needs


def representatives(hosts: Iterable[tuple[str, str, bool, dict[str, Any]]]) -> list[str]:
    """One host for each different kind: the others of its kind need the same.

    Args:
        hosts: (host, architecture, whether it belongs to the cluster, its variables as they are written).
    """
    chosen: dict[str, str] = {}
    for host, arch, member, variables in hosts:
        said = {key: value for key, value in variables.items() if not key.startswith(_IRRELEVANT)}
        mark = json.dumps([arch, member, said], sort_keys=True, default=str)
        chosen.setdefault(mark, host)
    return list(chosen.values())


def _images(need: dict[str, Any], mirror: Mirror) -> Iterator[str]:
    """Full references of what one role's answer needs: declared ones, those of its lists and of its charts."""
    yield from (full_reference(text) for text in need.get("images", []))
    for listed in need.get("image_lists", []):
        for text in mirror.lines({**listed, "arch": "noarch"}):
            if not any(fnmatch.fnmatch(text, pattern) for pattern in listed.get("without", [])):
                yield full_reference(text)
    for chart in need.get("charts", []):
        yield from (full_reference(text) for text in mirror.lines(chart_artifact(chart, ".images.txt")))


def _unknown(need: dict[str, Any], mirror: Mirror) -> Iterator[str]:
    """Charts whose images nobody names: the role knows those of its own version only, and nothing was rendered."""
    for chart in need.get("charts", []):
        listed = chart_artifact(chart, ".images.txt")
        if not need.get("images") and not mirror.holds(listed):
            yield f"{relative_path(listed)}, made by a `skerry mirror build` that has helm"


def _artifacts(need: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (item for item in need.get("artifacts", []) if not item.get("optional"))
    yield from (chart_artifact(chart) for chart in need.get("charts", []))
    yield from ({**listed, "arch": "noarch"} for listed in need.get("image_lists", []))


def survey(
    needs: Iterable[tuple[str, str, dict[str, Any]]], mirror: Mirror
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """What hosts need and what of it is not there.

    Args:
        needs: (host, architecture, what a role's `state: described` answered), for every host and role.

    Returns:
        Full references of images for nodes, by architecture; and {what is missing: a host that needs it}.
    """
    needs = list(needs)
    images: dict[str, set[str]] = {}
    wanted: dict[str, tuple[dict[str, Any], str, str]] = {}
    for host, arch, need in needs:
        for artifact in _artifacts(need):
            wanted.setdefault(relative_path(artifact), (artifact, relative_path(artifact), host))
        for reference in _images(need, mirror):
            if need.get("images_for", "k3s") == "k3s":
                images.setdefault(arch, set()).add(reference)
            artifact = image_artifact(reference, arch)
            wanted.setdefault(relative_path(artifact), (artifact, f"image {reference} ({arch})", host))
    missing = {unknown: host for host, _, need in needs for unknown in _unknown(need, mirror)}
    missing |= {shown: host for artifact, shown, host in wanted.values() if not mirror.holds(artifact)}
    there = [item for item in wanted.values() if item[1] not in missing]
    with ThreadPoolExecutor(8) as pool:
        for (_, shown, host), gone in zip(there, pool.map(lambda item: mirror.gone(item[0]), there), strict=True):
            if gone:
                missing[shown] = host
    return {arch: sorted(found) for arch, found in sorted(images.items())}, dict(sorted(missing.items()))


def incomplete(missing: dict[str, str], mirror: Mirror) -> ArtifactError:
    """The error that stops a run."""
    shown = [f"{what} (for {host})" for what, host in missing.items()]
    more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""
    return ArtifactError(
        "AIRGAP_001",
        f"the mirror {mirror.place} lacks {len(shown)} of the things that this inventory needs; nothing was changed "
        f"on any host: {'; '.join(shown[:10])}{more}",
        "run `skerry mirror build -i INVENTORY -d MIRROR` for this inventory where there is internet and bring the "
        "mirror here; what you made yourself goes in with `skerry mirror add`",
    )
