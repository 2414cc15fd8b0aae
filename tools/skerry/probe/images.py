"""A container image of one file, made in memory: no registry, no Dockerfile, no tool."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

#: What Docker and containerd call the architectures of `hostinfo.user_arch`.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64"}


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    archive.addfile(info, io.BytesIO(data))


def archive(tag: str, name: str, program: bytes, arch: str, labels: dict[str, str]) -> bytes:
    """The tar that ``docker load`` and ``ctr images import`` take: one layer with ``/name``, which is the entry point.

    Args:
        tag: repository and tag that the image gets, such as ``skerry.local/run:abc``.
        arch: of the userland (`hostinfo.user_arch`): also a wasm image carries it, or no host would take it.
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.USTAR_FORMAT) as rootfs:
        _add(rootfs, name, program, 0o755)
    layer_bytes = layer.getvalue()
    digest = hashlib.sha256(layer_bytes).hexdigest()
    config = {
        "architecture": ARCHITECTURES.get(arch, arch),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {"Entrypoint": ["/" + name], "Labels": labels, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "skerry"}],
    }
    if arch == "armv7l":
        config["variant"] = "v7"
    config_bytes = json.dumps(config).encode()
    config_name = hashlib.sha256(config_bytes).hexdigest() + ".json"
    layer_name = digest + "/layer.tar"
    manifest = [{"Config": config_name, "RepoTags": [tag], "Layers": [layer_name]}]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as image:
        _add(image, config_name, config_bytes, 0o644)
        _add(image, layer_name, layer_bytes, 0o644)
        _add(image, "manifest.json", json.dumps(manifest).encode(), 0o644)
    return out.getvalue()
