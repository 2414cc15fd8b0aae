"""The filter skerry.edge.image_artifacts: references of images -> artifacts of a mirror."""

from __future__ import annotations

DOCUMENTATION = r"""
name: image_artifacts
short_description: Turn references of images into artifacts of a mirror
description:
  - Gives artifacts as M(skerry.edge.artifact) takes them, each with C(reference), the image's name in full.
positional: _input, arch, folder
options:
  _input:
    description: References, such as C(rancher/mirrored-pause:3.6).
    type: list
    elements: str
    required: true
  arch:
    description: Architecture of the host (amd64, arm64, arm).
    type: str
    required: true
  folder:
    description: Folder on the host where the archives are to lie.
    type: str
    required: true
"""

EXAMPLES = r"""
archives: >-
  {{ ['rancher/mirrored-pause:3.6'] | skerry.edge.image_artifacts('amd64', '/var/lib/rancher/k3s/agent/images') }}
"""

RETURN = r"""
_value:
  description: One artifact for each image, sorted, none twice.
  type: list
  elements: dict
"""

from collections.abc import Iterable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.skerry.edge.plugins.module_utils.artifacts import ArtifactError
from ansible_collections.skerry.edge.plugins.plugin_utils.mirror_needs import full_reference, image_artifact


def image_artifacts(references: Iterable[str], arch: str, folder: str) -> list[dict[str, Any]]:
    """See DOCUMENTATION. The file on a host has the tag in its name: two tags of one image may lie side by side."""
    try:
        full = sorted({full_reference(text) for text in references})
    except ArtifactError as error:
        raise AnsibleFilterError(str(error)) from error
    made = []
    for reference in full:
        artifact = image_artifact(reference, arch)
        name = f"{artifact['file'].removesuffix('.tar')}@{artifact['version']}.tar"
        made.append({**artifact, "dest": f"{folder}/{name}", "mode": "0644", "reference": reference})
    return made


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """Filters by name."""
        return {"image_artifacts": image_artifacts}
