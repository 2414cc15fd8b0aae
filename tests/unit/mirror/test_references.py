"""References of images: both halves of the project read them alike and look for them in the same place."""

from __future__ import annotations

import re
import string

import pytest
from ansible_collections.skerry.edge.plugins.module_utils.artifacts import ArtifactError
from ansible_collections.skerry.edge.plugins.plugin_utils.mirror_needs import full_reference, image_artifact
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import SkerryError
from skerry.mirror.reference import parse

DIGEST = "sha256:" + "0123456789abcdef" * 4
KNOWN = {
    "busybox": ("docker.io/library/busybox:latest", "images/latest/amd64/docker.io+library+busybox.tar"),
    "rancher/pause:3.6": ("docker.io/rancher/pause:3.6", "images/3.6/amd64/docker.io+rancher+pause.tar"),
    "index.docker.io/library/a:1": ("docker.io/library/a:1", "images/1/amd64/docker.io+library+a.tar"),
    "quay.io/jetstack/x:v1.21.2": ("quay.io/jetstack/x:v1.21.2", "images/v1.21.2/amd64/quay.io+jetstack+x.tar"),
    "registry.site:5000/tool:1": ("registry.site:5000/tool:1", "images/1/amd64/registry.site~5000+tool.tar"),
    "localhost/tool": ("localhost/tool:latest", "images/latest/amd64/localhost+tool.tar"),
    f"ghcr.io/x/y@{DIGEST}": (f"ghcr.io/x/y@{DIGEST}", f"images/{DIGEST.replace(':', '-')}/amd64/ghcr.io+x+y.tar"),
    f"ghcr.io/x/y:1@{DIGEST}": (f"ghcr.io/x/y@{DIGEST}", f"images/{DIGEST.replace(':', '-')}/amd64/ghcr.io+x+y.tar"),
}  # fmt: skip
WRONG = ["", "Upper/case:1", "a b", "x:1:2/y:3", "x@sha256:12", "https://quay.io/x:1", "../x:1", "x/../y"]


def site_place(text: str) -> str:
    """Where the Ansible half looks."""
    artifact = image_artifact(full_reference(text), "amd64")
    return "/".join(artifact[key] for key in ("component", "version", "arch", "file"))


@pytest.mark.parametrize("text", KNOWN)
def test_a_reference_is_written_in_full_and_has_one_place(text: str) -> None:
    reference = parse(text)
    assert (reference.text, reference.place("amd64")) == KNOWN[text]
    assert (full_reference(text), site_place(text)) == KNOWN[text]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_reference_is_refused_by_both(text: str) -> None:
    with pytest.raises(SkerryError, match="MIRROR_011"):
        parse(text)
    with pytest.raises(ArtifactError, match="AIRGAP_004"):
        full_reference(text)


NAMES = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
REGISTRIES = st.sampled_from(["", "quay.io/", "registry.site:5000/", "localhost/", "docker.io/"])
TAGS = st.from_regex(re.compile(r":[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", re.ASCII), fullmatch=True) | st.just("")


@given(REGISTRIES, PATHS, TAGS, st.sampled_from(["", "@" + DIGEST]))
def test_both_halves_agree(registry: str, path: str, tag: str, digest: str) -> None:
    text = registry + path + tag + digest
    assert parse(text).text == full_reference(text)
    assert parse(text).place("amd64") == site_place(text)
    assert parse(parse(text).text).place("arm64") == parse(text).place("arm64")
