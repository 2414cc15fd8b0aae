"""A writer of single-layer images.

The archive is an OCI image layout (image-spec 1.1, image-layout.md) that carries Docker's ``manifest.json`` as well,
the form that ``docker save`` has had since Docker 25: ``docker load`` of any version reads it, and so do ``ctr images
import`` and k3s's ``agent/images``. Same input, same bytes: entries are sorted, owners are 0, times are the epoch.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import posixpath
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.errors import Exit, SkerryError

#: name[:tag], each part as the distribution specification has it; digests are not names of archives.
_REFERENCE = re.compile(r"^[a-z0-9]+(?:[._-][a-z0-9]+)*(?:[.:/_-]+[a-z0-9]+)*(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?$")
_EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Entry:
    """One file of the layer: its bytes or the path of a local file, and its mode."""

    source: bytes | Path
    mode: int = 0o755

    def read(self) -> bytes:
        """The content. Raises IMAGE_002 when the local file cannot be read."""
        if isinstance(self.source, bytes):
            return self.source
        try:
            return self.source.read_bytes()
        except OSError as error:
            raise SkerryError(
                "IMAGE_002",
                f"cannot read {self.source}: {error.strerror}",
                "build it first, or name another file",
            ) from error


def write_image(
    path: Path | str,
    ref: str,
    files: Mapping[str, Entry | bytes | Path],
    entrypoint: Sequence[str],
    env: Mapping[str, str] | None = None,
    architecture: str = "amd64",
    *,
    cmd: Sequence[str] = (),
    variant: str = "",
    user: str = "",
    working_dir: str = "/",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> str:
    """Write an image of one layer to ``path`` (a tar), by way of a file beside it.

    Args:
        path: the archive.
        ref: name and tag, e.g. ``docker.io/rancher/mirrored-pause:3.6``. A name without a registry gets ``docker.io/``
            (and ``library/``), as Docker would do: Kubernetes looks images up by their full name.
        files: path in the image -> Entry, bytes, or a local file (both of the latter get mode 0755).
        entrypoint: the command, e.g. ``["/x.wasm"]``.
        env: environment of the container.
        architecture: GOARCH of the image: ``amd64``, ``arm64``, ``arm``. Runtimes with a wasm handler want the host's.
        cmd: default arguments.
        variant: e.g. ``v7`` for ``arm``.
        user: user of the process, number or name.
        working_dir: its working directory.
        labels: labels of the configuration.
        annotations: annotations of the manifest.

    Returns:
        The digest of the manifest, ``sha256:<hex>``.

    Raises:
        SkerryError: IMAGE_001 (not a name), IMAGE_002 (an unreadable file), IMAGE_003 (the archive cannot be written).
    """
    if not _REFERENCE.match(ref):
        raise SkerryError("IMAGE_001", f"{ref!r} is no image name", "use a form like docker.io/library/hello:1")
    layer = _layer(files)
    platform = {"architecture": architecture, "os": "linux"} | ({"variant": variant} if variant else {})
    process: dict[str, Any] = {"Entrypoint": list(entrypoint), "Cmd": list(cmd), "User": user}
    process["WorkingDir"] = working_dir
    process |= {"Env": [f"{key}={value}" for key, value in sorted((env or {}).items())], "Labels": dict(labels or {})}
    config = _config(platform, {key: value for key, value in process.items() if value}, layer)
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        }
        | ({"annotations": dict(annotations)} if annotations else {})
    )
    _write(Path(path), _members(_full_name(ref), platform, [manifest, config, layer]))
    return _digest(manifest)


def _config(platform: Mapping[str, str], process: Mapping[str, Any], layer: bytes) -> bytes:
    return _json(
        dict(platform)
        | {
            "created": _EPOCH,
            "config": dict(process),
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            "history": [{"created": _EPOCH, "created_by": "skerry.images"}],
        }
    )


def _full_name(ref: str) -> str:
    name, _, tag = ref.rpartition(":") if ":" in ref.rsplit("/", 1)[-1] else (ref, "", "latest")
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif "." not in first and ":" not in first and first != "localhost":
        name = f"docker.io/{name}"
    return f"{name}:{tag}"


def _members(name: str, platform: Mapping[str, str], blobs: Sequence[bytes]) -> dict[str, bytes]:
    """Everything in the archive; ``blobs`` are manifest, configuration, layer."""
    manifest, config, layer = blobs
    descriptor = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest) | {
        "platform": dict(platform),
        "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]},
    }
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [descriptor]}
    docker = [{"Config": _blob(config), "RepoTags": [name], "Layers": [_blob(layer)]}]
    return {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json(index),
        "manifest.json": _json(docker),
        **{_blob(blob): blob for blob in blobs},
    }


def _layer(files: Mapping[str, Entry | bytes | Path]) -> bytes:
    members: dict[str, Entry | None] = {}
    for name, given in files.items():
        inside = posixpath.normpath("/" + name).lstrip("/")
        parent = posixpath.dirname(inside)
        while parent:
            members.setdefault(parent, None)
            parent = posixpath.dirname(parent)
        members[inside] = given if isinstance(given, Entry) else Entry(given)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(members):
            entry = members[name]
            _add(tar, name, None if entry is None else entry.read(), 0o755 if entry is None else entry.mode)
    return out.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes | None, mode: int) -> None:
    """Add a file, or a directory when ``content`` is None."""
    info = tarfile.TarInfo(name)
    info.mode = mode
    if content is None:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    else:
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def _write(path: Path, members: Mapping[str, bytes]) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(beside, mode="w", format=tarfile.PAX_FORMAT) as tar:
            directories = {parent for name in members for parent in map(str, Path(name).parents) if parent != "."}
            for name in sorted(directories):
                _add(tar, name, None, 0o755)
            for name in sorted(members):
                _add(tar, name, members[name], 0o644)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise SkerryError(
            "IMAGE_003",
            f"cannot write {path}: {error.strerror}",
            "make room, or choose a directory that you may write to",
            Exit.PREREQUISITE,
        ) from error


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _blob(blob: bytes) -> str:
    return "blobs/sha256/" + hashlib.sha256(blob).hexdigest()


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}
