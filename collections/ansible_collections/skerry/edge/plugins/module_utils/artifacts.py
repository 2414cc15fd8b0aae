"""What the artifact action (controller) and the artifact module (host) share: names, checksums, the mirror's lock.

Runs on hosts with Python 3.8, so it keeps to the standard library and to that version's syntax.
"""

from __future__ import annotations

import hashlib
import json
import re
from urllib.parse import quote

from ansible_collections.skerry.edge.plugins.module_utils.coded import CodedError

LOCK_NAME = "mirror.lock.json"
CHUNK = 1024 * 1024
#: Options of one artifact, as roles write them.
ARTIFACT_OPTIONS = {
    "component": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "arch": {"type": "str", "required": True, "choices": ["amd64", "arm64", "arm", "noarch"]},
    "file": {"type": "str", "required": True},
    "url": {"type": "str", "default": ""},
    "checksum": {"type": "str", "default": ""},
    "dest": {"type": "path", "required": True},
    "mode": {"type": "raw", "default": "0644"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "extract": {"type": "str", "default": ""},
    "optional": {"type": "bool", "default": False},
    "reference": {"type": "str"},
    "links": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "unless_command": {"type": "str", "default": ""},
        },
    },
}
#: What `described` lists beside artifacts: charts as a role installs them, images, and files that list images.
CHART_OPTIONS = {
    "chart": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "repo": {"type": "str", "default": ""},
    "release": {"type": "str", "default": ""},
    "namespace": {"type": "str", "default": "default"},
    "values": {"type": "dict", "default": {}},
}
LIST_OPTIONS = {
    "component": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "file": {"type": "str", "required": True},
    "url": {"type": "str", "default": ""},
    "checksum": {"type": "str", "default": ""},
    "without": {"type": "list", "elements": "str", "default": []},
}
#: Options of the whole task.
TASK_OPTIONS = {
    "artifacts": {"type": "list", "elements": "dict", "default": [], "options": ARTIFACT_OPTIONS},
    "charts": {"type": "list", "elements": "dict", "default": [], "options": CHART_OPTIONS},
    "images": {"type": "list", "elements": "str", "default": []},
    "images_for": {"type": "str", "choices": ["k3s", "docker"], "default": "k3s"},
    "image_lists": {"type": "list", "elements": "dict", "default": [], "options": LIST_OPTIONS},
    "mirror": {"type": "str", "default": ""},
    "state": {"type": "str", "choices": ["present", "absent", "described"], "default": "present"},
    "record": {"type": "path", "default": "/var/lib/skerry/artifacts.json"},
    "timeout": {"type": "int", "default": 30},
    "attempts": {"type": "int", "default": 3},
}

_HEX = re.compile(r"^[0-9a-f]{64}$")


class ArtifactError(CodedError):
    """What is wrong here, and what to do."""


def relative_path(artifact):
    """Where an artifact lies below a mirror directory: component/version/arch/file."""
    parts = [artifact["component"], artifact["version"], artifact["arch"], artifact["file"]]
    for part in parts:
        if not part or part in (".", "..") or "/" in part:
            raise ArtifactError(
                "ARTIFACT_007",
                "'{}' cannot be part of a mirror's path (artifact {})".format(part, "/".join(parts)),
                "give component, version, arch and file as plain names",
            )
    return "/".join(parts)


def mirror_url(mirror, artifact):
    """The artifact's address below a mirror URL; '+' becomes %2B, as in k3s's versions."""
    return mirror.rstrip("/") + "/" + quote(relative_path(artifact), safe="/")


def is_url(text):
    """Whether ``text`` is an http or https address."""
    return text.startswith(("http://", "https://"))


def split_checksum(checksum):
    """Split a checksum into (hex digest or '', URL of a checksum file or '')."""
    if not checksum:
        return "", ""
    kind, _, value = checksum.partition(":")
    if kind == "sha256" and _HEX.match(value.lower()):
        return value.lower(), ""
    if kind == "sha256" and is_url(value):
        return "", value
    raise ArtifactError(
        "ARTIFACT_007",
        f"checksum '{checksum}' is neither sha256:<64 hex digits> nor sha256:<http address>",
        "put the artifact's SHA-256 there, or leave it empty where the mirror's lock has it",
    )


def digest_from_list(text, file_name, where):
    """The digest of ``file_name`` in a checksum file (``hash  name`` lines, or one bare hash)."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    for words in lines:
        if len(words) >= 2 and words[-1].lstrip("*").rsplit("/", 1)[-1] == file_name and _HEX.match(words[0].lower()):
            return words[0].lower()
    if len(lines) == 1 and len(lines[0]) == 1 and _HEX.match(lines[0][0].lower()):
        return lines[0][0].lower()
    raise ArtifactError(
        "ARTIFACT_002",
        f"the checksum file {where} has no SHA-256 for {file_name}",
        "check version and architecture, or give the digest itself as sha256:<hex>",
    )


def _entries(text):
    lock = json.loads(text)
    if lock["format"] != 1:
        raise ValueError(f"format is {lock['format']!r}")
    for entry in lock["artifacts"]:
        if not _HEX.match(entry["sha256"]):
            raise ValueError(f"no SHA-256 for {entry['file']}")
    return {relative_path(entry): entry for entry in lock["artifacts"]}


def lock_index(text, where):
    """Read a mirror's lock: {component/version/arch/file: entry}."""
    try:
        return _entries(text)
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            "ARTIFACT_007",
            f"{where} is no mirror lock of format 1 ({error})",
            "make it again with `skerry mirror build`, or check it with `skerry mirror verify`",
        ) from error


def expected_digest(artifact, entry):
    """(digest, checksum URL) of what the artifact must be, by its checksum and the lock entry (or None).

    A file put into the mirror on purpose (`skerry mirror add`, source "local") is known by the lock alone; of others
    a digest in the role must agree with the lock.
    """
    pinned, url = split_checksum(artifact.get("checksum") or "")
    if entry is None:
        return pinned, url
    if pinned and pinned != entry["sha256"] and entry.get("source") != "local":
        raise ArtifactError(
            "ARTIFACT_003",
            f"the mirror's lock says sha256 {entry['sha256']} for {relative_path(artifact)}, "
            f"the role expects {pinned}",
            "fetch it again with `skerry mirror build`, or put your own file there with `skerry mirror add`",
        )
    return entry["sha256"], ""


def checksum_differs(what, actual, expected):
    """The error for content that is not what was promised."""
    return ArtifactError(
        "ARTIFACT_003",
        f"{what} has sha256 {actual}, expected {expected}; nothing was replaced",
        "check the mirror with `skerry mirror verify` and fill it again with `skerry mirror build`; "
        "from an upstream address, check for a proxy that alters downloads",
    )


def file_digest(path):
    """SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def plain_form(artifact):
    """The artifact as a mirror may hold it instead of an archive: the member itself, under its own name (or None)."""
    if not artifact.get("extract"):
        return None
    return {**artifact, "file": artifact["extract"].rsplit("/", 1)[-1], "extract": "", "checksum": ""}


def request_id(artifact):
    """Names what was asked for: artifacts with the same id have the same content, as releases do not change."""
    keys = ("component", "version", "arch", "file", "url", "checksum", "extract")
    text = json.dumps([artifact.get(key) or "" for key in keys])
    return hashlib.sha256(text.encode()).hexdigest()
