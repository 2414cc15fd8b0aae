"""Draws an inventory: regions, zones and hosts with type, architecture and role."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

from rich.console import Console
from rich.tree import Tree

from skerry.errors import Exit, SkerryError
from skerry.inventory.effective import Asking, Effective

NOWHERE = "(none)"
_ROLE_STYLE = {"server": "bold cyan", "agent": "green", "plain": "dim"}


@dataclass(frozen=True)
class Node:
    """One host as it is drawn; ``arch`` is empty where the inventory does not say it."""

    name: str
    address: str
    region: str
    zone: str
    role: str
    type: str
    arch: str

    def about(self) -> str:
        """`edge agent, arm64, 192.0.2.21`."""
        return ", ".join(part for part in (f"{self.type} {self.role}".strip(), self.arch, self.address) if part)


def read(path: Path) -> list[Node]:
    """The hosts of the inventory at ``path``, sorted by region, zone and name.

    Raises:
        SkerryError: INVENTORY_002 when Ansible cannot read it.
    """
    effective = Asking(path).answer()
    if effective.failure:
        raise SkerryError("INVENTORY_002", f"cannot draw {path}: {effective.failure}",
                          f"skerry inventory check -i {path} says what is wrong", Exit.USAGE)
    return sorted((_node(effective, name) for name in effective.hosts), key=lambda n: (n.region, n.zone, n.name))


def _node(effective: Effective, name: str) -> Node:
    values = effective.hosts[name]
    groups = {group for group, members in effective.groups.items() if name in members}
    role = "server" if "skerry_servers" in groups else "agent" if "skerry_agents" in groups else "plain"
    arch = next((group.removeprefix("arch_") for group in sorted(groups) if group.startswith("arch_")), "")
    kind = values.get("skerry_host_type") or ("cloud" if "skerry_cloud" in groups else "edge")
    return Node(
        name,
        str(values.get("ansible_host") or ""),
        str(values.get("skerry_region") or NOWHERE),
        str(values.get("skerry_zone") or NOWHERE),
        role,
        str(kind),
        arch or str(values.get("sandbox_arch") or ""),
    )


def nested(nodes: list[Node]) -> dict[str, dict[str, list[Node]]]:
    """Regions, in them zones, in them hosts."""
    regions: dict[str, dict[str, list[Node]]] = {}
    for node in nodes:
        regions.setdefault(node.region, {}).setdefault(node.zone, []).append(node)
    return regions


def tree(title: str, nodes: list[Node]) -> Tree:
    """For a terminal."""
    root = Tree(f"[bold]{title}[/]  {len(nodes)} hosts")
    for region, zones in nested(nodes).items():
        count = sum(map(len, zones.values()))
        branch = root.add(f"region [bold]{region}[/]  {count} hosts")
        for zone, hosts in zones.items():
            leaf = branch.add(f"zone {zone}")
            for node in hosts:
                leaf.add(f"[{_ROLE_STYLE[node.role]}]{node.name}[/]  {node.about()}", highlight=False)
    return root


def text(title: str, nodes: list[Node]) -> str:
    """The tree as plain text."""
    out = io.StringIO()
    Console(file=out, width=120, color_system=None).print(tree(title, nodes))
    return out.getvalue()


def mermaid(title: str, nodes: list[Node]) -> str:
    """For Markdown: a Mermaid flow chart, one subgraph a region and a zone."""
    lines = ["---", f"title: {title}", "---", "flowchart LR"]
    for number, (region, zones) in enumerate(nested(nodes).items()):
        lines.append(f'  subgraph r{number}["region {region}"]')
        for position, (zone, hosts) in enumerate(zones.items()):
            lines.append(f'    subgraph r{number}z{position}["zone {zone}"]')
            lines += [f'      {_identity(node.name)}["{node.name}<br/>{node.about()}"]:::{node.role}' for node in hosts]
            lines.append("    end")
        lines.append("  end")
    lines += ["  classDef server fill:#cfe8ff,stroke:#1b5e8c,color:#10222f",
              "  classDef agent fill:#dff3e0,stroke:#2e7d32,color:#10222f",
              "  classDef plain fill:#eeeeee,stroke:#757575,color:#10222f"]
    return "\n".join(lines) + "\n"


def _identity(name: str) -> str:
    return "h_" + re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):x}_", name)


_BOX, _GAP, _LINE, _PAD = 190, 14, 58, 16
_FILL = {"server": ("#cfe8ff", "#1b5e8c"), "agent": ("#dff3e0", "#2e7d32"), "plain": ("#eeeeee", "#757575")}


def svg(title: str, nodes: list[Node]) -> str:
    """A picture: a column for each zone, columns of a region in one frame."""
    regions = nested(nodes)
    tallest = max((len(hosts) for zones in regions.values() for hosts in zones.values()), default=0)
    frame = 2 * _PAD + 44 + tallest * (_LINE + _GAP)
    parts: list[str] = []
    left = _PAD
    for region, zones in regions.items():
        width = len(zones) * (_BOX + _GAP) - _GAP + 2 * _PAD
        size = f'x="{left}" y="44" width="{width}" height="{frame}"'
        parts.append(f'<rect {size} rx="10" fill="#fafafa" stroke="#9e9e9e"/>')
        parts.append(f'<text x="{left + _PAD}" y="66" class="h">region {escape(region)}</text>')
        for column, (zone, hosts) in enumerate(zones.items()):
            x = left + _PAD + column * (_BOX + _GAP)
            parts.append(f'<text x="{x}" y="88" class="z">zone {escape(zone)}</text>')
            parts += [_box(node, x, 98 + row * (_LINE + _GAP)) for row, node in enumerate(hosts)]
        left += width + _GAP
    width, height = left - _GAP + _PAD, frame + 44 + _PAD
    style = ("text{font-family:system-ui,sans-serif;font-size:12px;fill:#10222f}.t{font-size:16px;font-weight:600}"
             ".h{font-weight:600}.z{fill:#555}.n{font-weight:600}")
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" style="background:#fff" {size}>'
    heading = f'<text x="{_PAD}" y="28" class="t">{escape(title)}: {len(nodes)} hosts</text>'
    return "\n".join([head, f"<style>{style}</style>", heading, *parts, "</svg>"]) + "\n"


def _box(node: Node, x: int, y: int) -> str:
    fill, stroke = _FILL[node.role]
    return (
        f'<rect x="{x}" y="{y}" width="{_BOX}" height="{_LINE}" rx="6" fill="{fill}" stroke="{stroke}"/>'
        f'<text x="{x + 10}" y="{y + 18}" class="n">{escape(node.name)}</text>'
        f'<text x="{x + 10}" y="{y + 35}">{escape(" ".join(filter(None, (node.type, node.role, node.arch))))}</text>'
        f'<text x="{x + 10}" y="{y + 50}">{escape(node.address)}</text>'
    )
