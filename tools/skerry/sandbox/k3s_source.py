"""Where the sandbox's k3s can come from: the default mirror, upstream, or nowhere (then site.yml leaves k3s out)."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from functools import cache
from typing import Any

import yaml

from skerry import paths
from skerry.images.pause import pause_image
from skerry.mirror import store

#: Seconds given to upstream's server: long for a slow line, short for a person who waits.
REACH_SECONDS = 4.0

#: Components that k3s would deploy from images of a registry.
PACKAGED = ["coredns", "local-storage", "metrics-server", "servicelb", "traefik"]
PAUSE, PAUSE_VERSION, PAUSE_FILE = "pause", "3.6", "pause-ARCH.tar"


def provide(arch: str) -> None:
    """Put the pause image beside the mirror's k3s, where there is one for ``arch``.

    Raises:
        SkerryError: IMAGE_... (the compiler failed), MIRROR_... (the mirror cannot be written).
    """
    name = PAUSE_FILE.replace("ARCH", arch)
    if _in_mirror(arch) and not (paths.mirror() / PAUSE / PAUSE_VERSION / arch / name).exists():
        store.add(paths.mirror(), pause_image(arch), PAUSE, PAUSE_VERSION, arch, name)


def _in_mirror(arch: str) -> str | None:
    """The newest k3s version in the mirror's lock for ``arch``."""
    lock = paths.mirror() / "mirror.lock.json"
    try:
        artifacts = json.loads(lock.read_text(encoding="utf-8"))["artifacts"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    versions = [item["version"] for item in artifacts if item["component"] == "k3s" and item["arch"] == arch]
    return max(
        versions,
        key=lambda text: [int(part) for part in text.lstrip("v").replace("+k3s", ".").split(".") if part.isdigit()],
        default=None,
    )


@cache
def _unreachable() -> str:
    """Why upstream's downloads cannot be reached; '' when they can."""
    defaults = yaml.safe_load((paths.root() / "roles" / "k3s" / "defaults" / "main.yml").read_text(encoding="utf-8"))
    address = str(defaults["k3s_download_url"])
    request = urllib.request.Request(address.rsplit("/", 1)[0], method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=REACH_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        return f"{address} answers {error.code}" if error.code >= 400 else ""
    except OSError as error:
        return f"{address} cannot be reached ({getattr(error, 'reason', error)})"


def variables(arch: str) -> dict[str, Any]:
    """Variables for the role k3s on a host of ``arch``."""
    if version := _in_mirror(arch):
        pause = {"component": PAUSE, "version": PAUSE_VERSION, "file": PAUSE_FILE}
        return {
            "skerry_mirror": str(paths.mirror()),
            "k3s_version": version,
            # The mirror may be all there is: what wants images of a registry is left out, the pause image is our own.
            "k3s_disable": PACKAGED,
            "k3s_airgap_images": [pause],
        }
    why = "SKERRY_OFFLINE is set" if os.environ.get("SKERRY_OFFLINE") else _unreachable()
    if not why:
        return {}
    return {"k3s_enabled": False, "k3s_disabled_reason": f"no k3s for {arch} in {paths.mirror()}, and {why}"}
