"""The drawings of an inventory: every host in its zone, in each form."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from skerry import paths
from skerry.cli.inventory import app
from skerry.errors import SkerryError
from skerry.inventory import graph

CONTINUUM = paths.root() / "inventories" / "continuum"


@pytest.fixture(scope="module")
def nodes() -> list[graph.Node]:
    return graph.read(CONTINUUM)


def test_the_model_says_what_each_host_is(nodes: list[graph.Node]) -> None:
    by_name = {node.name: node for node in nodes}
    assert len(by_name) == 14
    assert by_name["eu-edge-2"] == graph.Node(
        "eu-edge-2", "198.51.100.22", region="eu", zone="eu-edge", role="agent", type="edge", arch="arm64"
    )
    assert by_name["eu-cloud-1"].role == "server"
    assert {node.arch for node in nodes} == {"amd64", "arm64", "armv7"}


def test_the_tree_nests_hosts_in_zones_in_regions(nodes: list[graph.Node]) -> None:
    lines = graph.text("continuum", nodes).splitlines()
    position = next(number for number, line in enumerate(lines) if "us-edge-3" in line)
    above = [line for line in lines[:position] if "zone" in line or "region" in line]
    assert "zone us-edge" in above[-1]
    assert any("region us" in line for line in above)


def test_mermaid_has_every_host_once_and_closes_what_it_opens(nodes: list[graph.Node]) -> None:
    text = graph.mermaid("continuum", nodes)
    assert text.count("subgraph") == len(re.findall(r"^\s*end$", text, re.MULTILINE)) == 3 + 6
    for node in nodes:
        assert text.count(f'["{node.name}<br/>') == 1
    identities = re.findall(r"^\s+(h_\S+)\[", text, re.MULTILINE)
    assert len(set(identities)) == len(nodes)


def test_the_picture_keeps_every_box_inside(nodes: list[graph.Node]) -> None:
    root = ElementTree.fromstring(graph.svg("continuum <&>", nodes))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = [element.attrib for element in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(boxes) == 3 + len(nodes)
    for box in boxes:
        assert 0 <= float(box["x"]) <= float(box["x"]) + float(box["width"]) <= width
        assert 0 <= float(box["y"]) <= float(box["y"]) + float(box["height"]) <= height
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {node.name for node in nodes} <= set(texts)


def test_the_command_writes_each_form(tmp_path: Path) -> None:
    runner = CliRunner()
    for form in ("tree", "mermaid", "svg", "json"):
        target = tmp_path / form
        done = runner.invoke(app, ["graph", "-i", str(CONTINUUM), "--format", form, "-o", str(target)])
        assert done.exit_code == 0, done.output
        assert "as-cloud-1" in target.read_text(encoding="utf-8")
    assert len(json.loads((tmp_path / "json").read_text())) == 14


def test_what_ansible_cannot_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("all: [\n")
    with pytest.raises(SkerryError) as caught:
        graph.read(tmp_path)
    assert caught.value.code == "INVENTORY_002"


def test_check_prints_findings_as_data(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("all:\n  hosts:\n    one:\n      k3s_verison: x\n")
    done = CliRunner().invoke(app, ["check", "-i", str(tmp_path), "--json"], standalone_mode=False)
    document = json.loads(done.stdout)
    assert document["hosts"] == document["errors"] == 1
    (finding,) = document["findings"]
    assert (finding["code"], finding["line"], finding["key"]) == ("INVENTORY_020", 4, "k3s_verison")
    assert "k3s_version" in finding["remedy"]
    assert done.return_value == 1


def test_check_counts_what_it_does_not_show(tmp_path: Path) -> None:
    hosts = "".join(f"    h{number}:\n      k3s_verison: x\n" for number in range(8))
    (tmp_path / "hosts.yml").write_text(f"all:\n  hosts:\n{hosts}")
    done = CliRunner().invoke(app, ["check", "-i", str(tmp_path)], standalone_mode=False)
    assert done.stdout.count("error INVENTORY_020") == 5
    assert "and 3 more" in done.stdout
    assert "8 hosts, 8 errors" in done.stdout
