"""What a workload file names by an OCI reference: modules fetched once and kept by digest, images for Docker."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from skerry import paths
from skerry.deploy.exchange import Hosts, Side
from skerry.errors import SkerryError
from skerry.mirror.reference import Reference
from skerry.oci.hosts import bring
from skerry.oci.kinds import refer
from skerry.oci.layout import Layout
from skerry.oci.login import access
from skerry.oci.registry import Registry
from skerry.oci.transfer import program_of, pull
from skerry.running.module import MAGIC

#: Seconds until a host's next word while its Docker pulls.
_PULLING = 330.0
#: Seconds for a connection to a registry that is only asked what a tag leads to.
_LOOKUP = 3.0
#: The registry cannot be reached; there is no such name at it; there is none in the layout.
_UNREACHABLE, _NO_NAME, _NOT_HERE = "IMAGE_026", "IMAGE_027", "IMAGE_013"


def module(text: str) -> Path:
    """The module that ``oci://...`` leads to, in the cache; by its digest once it was fetched no registry is asked.

    A tag is looked up each time; where the registry cannot be reached it leads to what it led to before.

    Raises:
        SkerryError: IMAGE_010 (no reference), IMAGE_022 (no module in it), IMAGE_024 to IMAGE_029 (the registry).
    """
    reference, layout = refer(text), Layout()
    if not (reference.digest and _complete(layout, reference)):
        try:
            pull(layout, reference, access(reference.registry))
        except SkerryError as error:
            if error.code != _UNREACHABLE or not _complete(layout, reference):
                raise
    return _kept(*program_of(layout, reference))


def module_by_digest(digest: str) -> Path | None:
    """The module with that digest, or in the image or artifact with that digest, when the image store has it."""
    layout = Layout()
    if not layout.path(digest).is_file():
        return None
    content = layout.read(digest)
    if content.startswith(MAGIC):
        return _kept("", content)
    return _kept(*program_of(layout, Reference("", "", "", digest)))


def _complete(layout: Layout, reference: Reference) -> bool:
    """Whether a reference's module is in the layout."""
    try:
        program_of(layout, reference)
    except SkerryError as error:
        if error.code in (_NOT_HERE, "IMAGE_015"):
            return False
        raise
    return True


def _kept(name: str, content: bytes) -> Path:
    place = paths.cache() / "modules" / hashlib.sha256(content).hexdigest() / (name or "module.wasm")
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f".{os.getpid()}")
        part.write_bytes(content)
        part.replace(place)
    return place


# -- images of kind container ----------------------------------------------------------------------------------------


def resolve(text: str) -> Reference:
    """An image's reference with the digest that its tag leads to now; without one where nobody here knows it.

    The registry is asked; where it cannot be reached, what was built, pulled or asked before counts. What is left
    without a digest is each host's own to find.

    Raises:
        SkerryError: IMAGE_010 (no reference), IMAGE_024, IMAGE_025 (the registry refuses), IMAGE_027 (no such name).
    """
    reference = refer(text)
    if reference.digest:
        return reference
    own = Layout().references().get(reference.text, {}).get("digest", "")
    try:
        registry = Registry(reference, access(reference.registry), attempts=1, seconds=_LOOKUP)
        try:
            found = registry.digest(reference.tag)
        finally:
            registry.close()
    except SkerryError as error:
        if error.code != _UNREACHABLE:
            raise
        return replace(reference, digest=own or _remembered().get(reference.text, ""))
    if not found and not own:
        raise SkerryError("DEPLOY_070", f"{reference.text} is not at its registry", "check its name and tag")
    _remember(reference.text, found or own)
    return replace(reference, digest=found or own)


def _notes() -> Path:
    return paths.cache() / "oci" / "resolved.json"


def _remembered() -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(_notes().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def _remember(name: str, digest: str) -> None:
    known = _remembered()
    if known.get(name) != digest:
        _notes().parent.mkdir(parents=True, exist_ok=True)
        part = _notes().with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps({**known, name: digest}, indent=1, sort_keys=True), encoding="utf-8")
        part.replace(_notes())


def written(reference: Reference) -> str:
    """A resolved reference in full: its tag is for people, its digest is what counts."""
    tag = f":{reference.tag}" if reference.tag else ""
    return f"{reference.name}{tag}" + (f"@{reference.digest}" if reference.digest else "")


def bring_all(hosts: Hosts, wanted: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """See to it that hosts have the images of what they are to run: from the image store here, else by their own
    Docker's pull. What does not come is told when the workload is applied.

    Args:
        wanted: host -> desired workloads.
    """
    needed = {host: sorted({one["module"]["name"] for one in found if one["module"]["form"] == "image"})
              for host, found in wanted.items()}
    needed = {host: names for host, names in needed.items() if names and host in hosts.open}
    layout = Layout()
    lacking = _ask(hosts, needed, layout, {})
    for name in sorted({name for names in lacking.values() for name in names}):
        reference = _stored(layout, name)
        if reference is not None:
            bring(layout, reference, [hosts.open[host].target for host, names in lacking.items() if name in names],
                  ["docker"])
    lacking = _ask(hosts, lacking, layout, {"brought": True})
    _ask(hosts, lacking, layout, {"pull": True})


def _ask(hosts: Hosts, needed: Mapping[str, list[str]], layout: Layout,
         how: Mapping[str, bool]) -> dict[str, list[str]]:
    """Host -> which of the images it lacks."""

    def ask(host: Side) -> list[str]:
        asked = [_asked(layout, name, "pull" in how) for name in needed[host.target.name]]
        message = {"op": "images", "brought": False, "pull": False, **how, "images": asked}
        answers = list(host.ask(message, _PULLING))
        return [str(one["image"]) for one in answers if one.get("here") is False]

    return {host: names for host, names in hosts.each(needed, ask).items() if names}


def _asked(layout: Layout, name: str, to_pull: bool) -> dict[str, Any]:
    reference = refer(name)
    by_tag = f"{reference.name}:{reference.tag}" if reference.tag else ""
    by_digest = f"{reference.name}@{reference.digest}" if reference.digest else ""
    return {"image": name, "by_tag": by_tag, "by_digest": by_digest, "ids": _ids(layout, reference),
            "login": _login(reference) if to_pull else ""}


def _ids(layout: Layout, reference: Reference) -> list[str]:
    """What Docker calls the image when it was loaded: the digests of its configurations, one a platform."""
    if not reference.digest or not layout.path(reference.digest).is_file():
        return []
    top = layout.by_digest(reference.digest)
    digests = [part["digest"] for part in top.json["manifests"]] if top.is_index else [top.digest]
    there = [layout.by_digest(digest) for digest in digests if layout.path(digest).is_file()]
    return [str(manifest.json["config"]["digest"]) for manifest in there]


def _stored(layout: Layout, name: str) -> Reference | None:
    """What an image is called in the image store, when that has it."""
    wanted = refer(name)
    for text, entry in layout.references().items():
        reference = refer(text)
        if reference.name == wanted.name and entry["digest"] == wanted.digest:
            return reference
    return None


def _login(reference: Reference) -> str:
    """The header with which Docker is let in by the registry."""
    known = access(reference.registry).login
    if known is None:
        return ""
    said = {"username": known[0], "password": known[1], "serveraddress": reference.registry}
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode()
