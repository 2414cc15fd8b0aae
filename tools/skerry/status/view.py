"""A status on a terminal: a line that says how things are, then what a person looks at next."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from skerry.status.collect import Status, unwell
from skerry.status.components import Component
from skerry.status.document import runtimes
from skerry.status.model import Cluster, Node, Pod
from skerry.targets.look import Look

#: Rows of nodes, hosts and pods that are shown one by one; beyond that they are summed up.
ROWS = 20
GOOD, WARN, BAD, DIM = "green", "yellow", "red", "bright_black"
_STATE = {"healthy": GOOD, "unknown": WARN, "installing": WARN, "degraded": WARN, "failed": BAD, "down": BAD}


def bar(percent: float | None, warn: float = 75, bad: float = 90) -> Text:
    """A share as five blocks and a number."""
    if percent is None:
        return Text("-", DIM)
    style = BAD if percent >= bad else WARN if percent >= warn else GOOD
    full = min(5, max(0, round(percent / 20)))
    return Text.assemble(("▮" * full, style), ("▯" * (5 - full), DIM), (f" {percent:3.0f}%", style if full > 3 else ""))


#: Columns whose words may take several lines.
_LONG = ("what is wrong", "runtimes")
#: Characters from which on a terminal takes all columns.
WIDE = 125


def _table(*columns: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=f"bold {DIM}")
    for name in columns:
        long = name in _LONG
        table.add_column(name, justify="right" if name in right else "left", no_wrap=not long,
                         overflow="fold" if long else "ellipsis", min_width=14 if name == "name" else None)  # fmt: skip
    return table


def _title(text: str, rest: str = "") -> Text:
    return Text.assemble("\n", (text, "bold"), ("  " + rest if rest else "", DIM))


def _share(part: float | None, whole: float) -> float | None:
    return None if part is None or not whole else 100 * part / whole


def headline(status: Status) -> Text:
    """How things are, in one line."""
    cluster, line = status.cluster, Text()
    if status.well:
        line.append("● all well", f"bold {GOOD}")
    elif not status.answered:
        line.append("● nothing answers", f"bold {BAD}")
    else:
        line.append("● needs attention", f"bold {WARN}")
    if cluster is not None:
        line.append(f"  cluster {cluster.name}")
        if cluster.error is not None:
            line.append("  API does not answer", BAD)
        else:
            ready = sum(node.ready == "True" for node in cluster.nodes.values())
            style = GOOD if ready == len(cluster.nodes) else BAD
            line.append(f"  {cluster.version}", DIM)
            line.append("  nodes ").append(f"{ready:,}/{len(cluster.nodes):,}", style)
            line.append(f"  pods {cluster.pod_count:,}")
            bad = sum(unwell(pod.phase, pod.ready, pod.containers) for pod in cluster.pods)
            if bad:
                line.append(f" ({bad:,} not well)", WARN)
    if status.looks:
        known = len(status.looks) - len(status.unknown)
        line.append("  hosts ").append(f"{known:,}/{len(status.looks):,}", GOOD if not status.unknown else BAD)
    moment = time.strftime("%H:%M:%S", time.localtime(status.taken))
    return line.append(f"  read at {moment} in {status.seconds:.1f} s", DIM)


Row = dict[str, Text | str]


def _rows(found: Iterable[Row], narrow: Sequence[str], wide: bool, right: Sequence[str]) -> Table:
    """A table of rows by column; a narrow terminal gets the columns of ``narrow`` alone."""
    rows = list(found)
    columns = [name for name in rows[0] if wide or name in narrow]
    table = _table(*columns, right=right)
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    return table


def _node_row(node: Node) -> Row:
    words = [] if node.ready == "True" else ["not Ready" if node.ready == "False" else "unknown"]
    words += node.trouble + (["cordoned"] if node.unschedulable else [])
    style = BAD if node.ready != "True" else WARN if words else GOOD
    cpu, memory = _share(node.cpu_used, node.cpu), _share(node.memory_used, node.memory)
    place = "/".join(part for part in (node.region, node.zone) if part)
    return {
        "name": Text.assemble(("● ", style), node.name), "state": Text(", ".join(words) or "Ready", style),
        "roles": ",".join(node.roles) or "-", "type": node.host_type or "-", "place": place or "-",
        "version": node.version, "pods": f"{node.pods}/{node.max_pods}", "cpu": bar(cpu), "memory": bar(memory),
        "disk": bar(node.disk_percent),
    }  # fmt: skip


def _nodes(cluster: Cluster, wide: bool) -> Iterable[RenderableType]:
    nodes = list(cluster.nodes.values())
    ill = [node for node in nodes if node.ready != "True" or node.trouble or node.unschedulable]
    shown = nodes if len(nodes) <= ROWS else ill[:ROWS]
    if len(nodes) > ROWS:
        yield _title("Nodes", f"{len(nodes):,}, by region and type")
        table = _table("region", "type", "nodes", "Ready", "pods", "requested", right=("nodes", "Ready", "pods"))
        groups: dict[tuple[str, str], list[Node]] = {}
        for node in nodes:
            groups.setdefault((node.region or "-", node.host_type or "-"), []).append(node)
        for (region, kind), found in sorted(groups.items()):
            ready = sum(node.ready == "True" for node in found)
            asked = _share(sum(one.cpu_requested for one in found), sum(one.cpu for one in found))
            table.add_row(region, kind, f"{len(found):,}", Text(f"{ready:,}", GOOD if ready == len(found) else BAD),
                          f"{sum(node.pods for node in found):,}", bar(asked))  # fmt: skip
        yield table
    if shown:
        title = "Nodes" if shown is nodes else "Nodes that need attention"
        more = "" if len(shown) >= (len(nodes) if shown is nodes else len(ill)) else f"{len(shown)} of {len(ill):,}"
        yield _title(title, more)
        ordered = sorted(shown, key=lambda one: (one.ready == "True", one.name))
        yield _rows(map(_node_row, ordered), ("name", "state", "pods", "cpu", "memory", "disk"), wide, ("pods",))


def _host_row(look: Look) -> Row:
    if look.fault is not None:
        said = look.fault.cause.partition(": ")[2] or look.fault.cause
        empty: Row = dict.fromkeys(("system", "k3s", "load", "memory", "fullest disk"), Text("-", DIM))
        return {"name": Text.assemble(("● ", BAD), look.name), **empty, "runtimes": Text(f"unknown: {said}", BAD)}
    basics, memory = look.part("basics"), look.part("memory")
    load, cpus = (basics.get("load") or [None])[0], basics.get("cpus") or 1
    fullest = max(look.report.get("disks") or [], key=lambda one: one["used_percent"], default=None)
    used = _share(memory.get("total", 0) - memory.get("available", 0), memory.get("total", 0))
    words = Text()
    for one in runtimes(look):
        name = f"{one['name']} {one['version']}".strip()
        words.append((" " if words else "") + name, GOOD if one["proved"] else BAD)
    facts = basics.get("fact_file", {})
    k3s = (facts.get("k3s") or {}).get("version") or (look.report.get("k3s_role") or "-")
    return {
        "name": Text.assemble(("● ", GOOD), look.name),
        "system": str(basics.get("os", "?")).replace("GNU/Linux ", "").split(" (")[0],
        "k3s": str(k3s), "load": f"{load:.2f} of {cpus:g}" if load is not None else "-", "memory": bar(used),
        "fullest disk": Text.assemble(bar(fullest["used_percent"]), f" {fullest['path']}") if fullest else "-",
        "runtimes": words if words else Text("-", DIM),
    }  # fmt: skip


def _hosts(status: Status, wide: bool) -> Iterable[RenderableType]:
    looks = list(status.looks.values())
    shown = looks if len(looks) <= ROWS else [look for look in looks if look.fault is not None][:ROWS]
    if not looks:
        return
    yield _title("Hosts", f"{len(looks) - len(status.unknown):,} of {len(looks):,} answered"
                 if len(looks) > ROWS or status.unknown else "")  # fmt: skip
    if len(looks) > ROWS:
        versions = Counter(
            f"{one['name']} {one['version']}".strip() for look in looks for one in runtimes(look) if one["proved"]
        )
        yield Text("runtimes  " + (", ".join(f"{name} on {n:,}" for name, n in versions.most_common()) or "none"))
    if shown:
        yield _rows(map(_host_row, shown), ("name", "memory", "fullest disk", "runtimes"), wide, ("load",))


def _components(found: Sequence[Component]) -> Iterable[RenderableType]:
    if not found:
        return
    yield _title("Components")
    table = _table("name", "state", "version", "chart", "ready", "where", "what is wrong", right=("ready",))
    for one in found:
        style = _STATE[one.state]
        table.add_row(Text.assemble(("● ", style), one.name), Text(one.state, style), one.version or "-",
                      one.chart or "-", f"{one.ready:,}/{one.desired:,}", one.where,
                      Text(one.detail, style))  # fmt: skip
    yield table


def why(pod: Pod) -> str:
    """What is wrong with a pod, in its own words, the shortest that tell it."""
    if pod.trouble is None:
        return ""
    if pod.trouble.scheduling:
        return pod.trouble.scheduling
    for one in pod.trouble.containers:
        if one.state != "running" and (one.message or one.reason):
            ended = f", last ended with {one.last_exit_code} ({one.last_reason})" if one.last_exit_code else ""
            return (one.message or one.reason) + ended
    return pod.trouble.message


def _pods(cluster: Cluster) -> Iterable[RenderableType]:
    counts = ", ".join(f"{name} {count:,}" for name, count in cluster.phases.most_common())
    yield _title("Pods", counts or "none")
    ill = [pod for pod in cluster.pods if unwell(pod.phase, pod.ready, pod.containers)]
    if not ill:
        return
    table = _table("namespace", "name", "status", "ready", "restarts", "node", "what is wrong",
                   right=("ready", "restarts"))  # fmt: skip
    for pod in sorted(ill, key=lambda one: (-one.restarts, one.namespace, one.name))[:ROWS]:
        table.add_row(pod.namespace, pod.name, Text(pod.status, BAD if pod.phase == "Failed" else WARN),
                      f"{pod.ready}/{pod.containers}", str(pod.restarts or "-"), pod.node or "-",
                      Text(why(pod)[:160]))  # fmt: skip
    yield table
    if len(ill) > ROWS:
        yield Text(f"... and {len(ill) - ROWS:,} more (--json lists them)", DIM)


def _crossings(status: Status) -> Iterable[RenderableType]:
    if not status.crossings:
        return
    yield _title("Thresholds crossed")
    table = _table("what", "where", "is", "limit", right=("is", "limit"))
    for one in status.crossings[:ROWS]:
        unit = f" {one.unit}" if one.unit and one.unit != "%" else one.unit
        value = Text(f"{one.value:g}{unit}", WARN)
        table.add_row(Text(one.threshold, WARN), one.subject, value, f"{one.limit:g}{unit}")
    yield table
    if len(status.crossings) > ROWS:
        yield Text(f"... and {len(status.crossings) - ROWS:,} more (--json lists them)", DIM)


def _partial(status: Status) -> Iterable[RenderableType]:
    if not status.partial:
        return
    yield _title("Not all of it was read")
    for one in status.partial:
        beyond = f" of {one.count + one.remaining:,}" if one.remaining else ""
        got = f"{one.count:,}{beyond}" if one.state == "partial" else "none"
        yield Text.assemble((f"{one.state:8}", WARN), f" {one.name}: {got}; {one.error}")


def render(status: Status, width: int = WIDE) -> RenderableType:
    """The whole status, for a terminal of ``width`` characters."""
    wide = width >= WIDE
    parts: list[RenderableType] = [headline(status)]
    cluster = status.cluster
    if cluster is not None and cluster.error is not None:
        parts.append(Text(f"  {cluster.error.error}", BAD))
    elif cluster is not None:
        if cluster.health.get("failed"):
            parts.append(Text(f"  API server not ready: {', '.join(cluster.health['failed'])[:200]}", BAD))
        parts += _nodes(cluster, wide)
    parts += _components(status.components)
    parts += _hosts(status, wide)
    if cluster is not None and cluster.error is None:
        parts += _pods(cluster)
    parts += _crossings(status)
    parts += _partial(status)
    if not status.well:
        parts.append(Text("\nskerry doctor with the same inventory names causes", DIM))
    return Group(*parts)
