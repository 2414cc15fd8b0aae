"""How the architecture of hosts is said, in the inventory or on the command line."""

from __future__ import annotations

import pytest

from skerry.errors import SkerryError
from skerry.inventory.specs import site_options
from skerry.mirror.plan import architectures


def test_every_word_that_the_inventory_check_takes_is_understood() -> None:
    words = [word for word in site_options()["skerry_arch"].choices if word]
    assert words
    for word in words:
        (found,) = architectures({"edge-1": {"skerry_arch": word}}, [])
        assert found in ("amd64", "arm64", "arm")


def test_the_inventory_says_it_before_the_command_line() -> None:
    hosts = {"edge-1": {"skerry_arch": "arm64", "sandbox_arch": "amd64"}, "edge-2": {"skerry_arch": ""}}
    assert architectures(hosts, ["amd64", "arm"]) == {"arm64": {"edge-1"}, "amd64": {"edge-2"}, "arm": {"edge-2"}}


def test_a_host_of_which_nobody_says_it_is_named() -> None:
    with pytest.raises(SkerryError, match="edge-2") as raised:
        architectures({"edge-1": {"skerry_arch": "amd64"}, "edge-2": {}}, [])
    assert raised.value.code == "MIRROR_006"
