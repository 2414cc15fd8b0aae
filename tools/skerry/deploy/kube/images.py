"""Modules as images of nodes: named by the module's digest, brought over ssh to the nodes that lack them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skerry.deploy.kube.cluster import Object
from skerry.errors import Exit, SkerryError
from skerry.mirror.reference import Reference
from skerry.oci.build import Recipe, build
from skerry.oci.hosts import bring
from skerry.oci.kinds import refer
from skerry.oci.layout import Layout
from skerry.targets.api import Target

#: The kubelet tells so many images of its node, the largest first: a longer list may lack a small one that is there.
_TOLD = 50


def told(node: Object) -> frozenset[str] | None:
    """The images that a node says it has; None when it may have told only some of them."""
    listed = (node.get("status") or {}).get("images") or []
    names = frozenset(name for one in listed for name in one.get("names") or [])
    return None if len(listed) >= _TOLD else names


@dataclass
class Brought:
    """What became of an image: hosts that have it now, those that could not be given it, and bytes sent."""

    there: set[str] = field(default_factory=set)
    faults: dict[str, SkerryError] = field(default_factory=dict)
    sent: int = 0


def _packed(layout: Layout, wanted: Reference, path: Path | None, file: str) -> None:
    """See that the layout has the image.

    Raises:
        SkerryError: DEPLOY_084 when there is neither the image nor the module's file.
    """
    if path is not None:
        build(layout, path, wanted, Recipe(name=file))
    elif wanted.text not in layout.references():
        raise SkerryError("DEPLOY_084", f"a node lacks the image {wanted.text}, and this machine has not its module",
                          "name the module's file instead of its digest", Exit.FAILED)


def give(image: str, file: str, path: Path | None, targets: Sequence[Target], seconds: float) -> Brought:
    """Load a module's image into the containerd of hosts, where it is not there already.

    Args:
        file: the module's name in the image; ``path``: its file here, None for an image that was made before.

    Raises:
        SkerryError: DEPLOY_084, RUN_001 to RUN_006, IMAGE_... (the layout).
    """
    layout, wanted = Layout(), refer(image)
    _packed(layout, wanted, path, file)
    outcome = bring(layout, wanted, targets, ("containerd",), seconds)
    found = Brought(faults=dict(outcome.faults))
    for one in outcome.loaded:
        if one.error is not None:
            found.faults[one.host] = one.error
        else:
            found.there.add(one.host)
            found.sent += one.sent
    return found


def lacking(image: str, hosts: Iterable[str], known: Mapping[str, frozenset[str] | None]) -> list[str]:
    """Hosts of which it is not known that they have an image. ``known``: what their nodes tell (`told`)."""
    return [host for host in hosts if (images := known.get(host)) is None or image not in images]
