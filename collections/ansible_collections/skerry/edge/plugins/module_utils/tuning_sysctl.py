"""Kernel settings by memory, and how they are raised: never lowered, absent keys left alone.

Source of the values: upstream-independent rules for hosts with many pods (docs/host-tuning.md has them as a table);
connection tracking takes some 300 bytes an entry, so 64 entries for each MB are at most 2 % of the memory. Pure
Python, 3.8 or later.
"""

from __future__ import annotations

import re

from ansible_collections.skerry.edge.plugins.module_utils.host import Host
from ansible_collections.skerry.edge.plugins.module_utils.tuning_state import Context

FILE = "/etc/sysctl.d/90-skerry.conf"
MODULE_OPTIONS = "/etc/modprobe.d/90-skerry.conf"
HASHSIZE = "/sys/module/nf_conntrack/parameters/hashsize"
SMALL_MB = 1100
LARGE_MB = 7900
NODE_PORTS = "30000-32767"

# key: (small host, normal, large); None leaves the kernel's value.
BY_SIZE = {
    "net.ipv4.neigh.default.gc_thresh1": (256, 1024, 4096),
    "net.ipv4.neigh.default.gc_thresh2": (1024, 2048, 8192),
    "net.ipv4.neigh.default.gc_thresh3": (2048, 4096, 16384),
    "net.ipv6.neigh.default.gc_thresh1": (256, 1024, 4096),
    "net.ipv6.neigh.default.gc_thresh2": (1024, 2048, 8192),
    "net.ipv6.neigh.default.gc_thresh3": (2048, 4096, 16384),
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait": (3600, 3600, 3600),
    "fs.inotify.max_user_instances": (1024, 8192, 8192),
    "fs.inotify.max_user_watches": (65536, 524288, 1048576),
    "fs.file-max": (None, 1048576, 1048576),
    "fs.nr_open": (None, 1048576, 1048576),
    "fs.aio-max-nr": (None, 1048576, 1048576),
    "net.core.somaxconn": (4096, 8192, 32768),
    "net.ipv4.tcp_max_syn_backlog": (2048, 4096, 8192),
    "net.core.netdev_max_backlog": (2000, 5000, 16384),
    "net.core.rmem_max": (4 << 20, 8 << 20, 16 << 20),
    "net.core.wmem_max": (4 << 20, 8 << 20, 16 << 20),
    "vm.max_map_count": (None, 262144, 262144),
    "vm.min_free_kbytes": (16384, None, None),
    "net.ipv4.ip_forward": (1, 1, 1),
    "net.bridge.bridge-nf-call-iptables": (1, 1, 1),
    "net.bridge.bridge-nf-call-ip6tables": (1, 1, 1),
    "vm.overcommit_memory": (1, 1, 1),
    "kernel.panic": (10, 10, 10),
    "kernel.panic_on_oops": (1, 1, 1),
    "kernel.keys.root_maxkeys": (1000000, 1000000, 1000000),
    "kernel.keys.root_maxbytes": (25000000, 25000000, 25000000),
    "kernel.keys.maxkeys": (2000, 2000, 2000),
    "kernel.keys.maxbytes": (2000000, 2000000, 2000000),
}
# Triples (least, default, most): only the third value is raised.
THIRD_BY_SIZE = {
    "net.ipv4.tcp_rmem": (None, 8 << 20, 16 << 20),
    "net.ipv4.tcp_wmem": (None, 8 << 20, 16 << 20),
}


def size_of(memory_mb: int) -> str:
    """Size class of a host: small (up to 1 GB), normal, large (8 GB and more)."""
    return "small" if memory_mb <= SMALL_MB else "large" if memory_mb >= LARGE_MB else "normal"


def conntrack_entries(memory_mb: int) -> int:
    """Entries for connection tracking: 64 for each MB, rounded down to a power of two, from 32768 to 1048576."""
    wanted = max(32768, min(1048576, memory_mb * 64))
    return 1 << (wanted.bit_length() - 1)


def targets(memory_mb: int, wide: bool = True) -> dict[str, int | str]:
    """What the keys are to be at least, for a host of that memory; ``wide``: the kernel has 64 bits.

    Values: an int (at least that), ``"third:N"`` (third of three at least that), ``"range:A-B"`` (a range at least
    that wide), ``"with:A-B"`` (a list of ranges that has this one).
    """
    column = ("small", "normal", "large").index(size_of(memory_mb))
    found: dict[str, int | str] = {key: row[column] for key, row in BY_SIZE.items() if row[column] is not None}
    found.update({key: f"third:{row[column]}" for key, row in THIRD_BY_SIZE.items() if row[column] is not None})
    found["net.netfilter.nf_conntrack_max"] = conntrack_entries(memory_mb)
    if column and wide:
        found["kernel.pid_max"] = 4194304
    if column:
        found["net.ipv4.ip_local_reserved_ports"] = f"with:{NODE_PORTS}"  # before the range is widened over them
        found["net.ipv4.ip_local_port_range"] = "range:10240-65535"
    return found


def raised(current: str, target: int | str) -> str:
    """The value to set, single blanks between numbers; equal to ``current`` (so normalised) where that is enough
    already."""
    have = " ".join(current.split())
    if isinstance(target, int):
        return have if have.lstrip("-").isdigit() and int(have) >= target else str(target)
    kind, _colon, wanted = target.partition(":")
    if kind == "third":
        parts = have.split()
        return have if len(parts) != 3 or int(parts[2]) >= int(wanted) else f"{parts[0]} {parts[1]} {wanted}"
    if kind == "range":
        low, high = (int(part) for part in wanted.split("-"))
        parts = have.split()
        return f"{min(low, int(parts[0]))} {max(high, int(parts[1]))}" if len(parts) == 2 else have
    if kind == "with":
        ranges = [part for part in have.split(",") if part]
        return have if _covered(wanted, ranges) else ",".join([*ranges, wanted])
    return wanted


def _covered(wanted: str, ranges: list[str]) -> bool:
    low, _dash, high = wanted.partition("-")
    for part in ranges:
        first, _dash, last = part.partition("-")
        if int(first) <= int(low) and int(high) <= int(last or first):
            return True
    return False


def path_of(key: str) -> str:
    """File of a key below /proc/sys; a '/' in a key stands for a dot in an interface's name."""
    return "/proc/sys/" + "/".join(part.replace("/", ".") for part in key.split("."))


def apply(context: Context, wanted: dict[str, int | str], exact: dict[str, str]) -> None:
    """Raise the keys now and for the next boot; ``exact`` are the site's own values, set as they are."""
    ours = context.journal.setdefault("sysctl", {})
    refused = context.journal.setdefault("sysctl_refused", {})
    lines: dict[str, str] = {}
    elsewhere = _set_elsewhere(context)
    for key, target in sorted({**wanted, **{key: f"exact:{value}" for key, value in exact.items()}}.items()):
        current = context.host.read(path_of(key), None)
        if current is None:
            context.absent.append(key)
            continue
        have = " ".join(current.split())
        want = raised(current, target)
        if want == have:
            if have == ours.get(key, {}).get("set") or key in exact:
                lines[key] = have
            elif key in ours and key not in elsewhere:
                # Raised further for now (a host that shares the kernel, a person): after a boot it is ours that counts.
                lines[key] = ours[key]["set"]
            continue
        if _set(context, key, have, want, target, ours, refused):
            lines[key] = want
    for key in [key for key in ours if key not in lines]:
        context.notes.append(f"{key} is no longer set here: something else has raised it, or it is no longer asked for")
        del ours[key]
    text = "".join(f"{key} = {value}\n" for key, value in lines.items())
    context.write(FILE, f"# Made by the role host_tuning: raised values only.\n{text}" if text else None)
    _note_conflicts(context, lines)


def _set(
    context: Context,
    key: str,
    have: str,
    want: str,
    target: int | str,
    ours: dict[str, dict[str, str]],
    refused: dict[str, str],
) -> bool:
    """Set one key; False where the kernel refuses (then it is noted and not counted as a change)."""
    if context.check and refused.get(key) == want:
        context.read_only.append(key)
        return False
    if not context.check:
        try:
            path = context.host.path(path_of(key))
            # Read again just before: on hosts that share a kernel another one may have raised it further meanwhile.
            fresh = path.read_text(encoding="utf-8")
            if raised(fresh, target) == " ".join(fresh.split()):
                return False
            path.write_text(want + "\n", encoding="utf-8")
        except OSError as error:
            context.read_only.append(key)
            context.notes.append(f"{key} cannot be set here: {error.strerror}")
            refused[key] = want
            return False
        refused.pop(key, None)
        ours[key] = {"before": ours.get(key, {}).get("before", have), "set": want}
        context.save()
    context.change(f"{key}: {have} -> {want}")
    return True


def _set_elsewhere(context: Context) -> set[str]:
    """Keys that other files than ours set at boot."""
    folders = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")
    files = [file for folder in folders for file in sorted(context.host.path(folder).glob("*.conf"))]
    texts = [file.read_text(encoding="utf-8") for file in files if file != context.host.path(FILE) and file.exists()]
    texts.append(context.host.read("/etc/sysctl.conf"))
    found = (re.match(r"\s*-?([\w./-]+)\s*=", line) for text in texts for line in text.splitlines())
    return {match.group(1).replace("/", ".") for match in found if match}


def _note_conflicts(context: Context, lines: dict[str, str]) -> None:
    """Note files that are read after ours and set one of our keys to something else: they win at the next boot."""
    later = [file for file in sorted(context.host.path("/etc/sysctl.d").glob("*.conf")) if file.name > "90-skerry.conf"]
    for file in later:
        for line in context.host.read(str(file.relative_to(context.host.root))).splitlines():
            found = re.match(r"\s*-?([\w./-]+)\s*=\s*(.*?)\s*$", line)
            if found and lines.get(found.group(1), found.group(2)) != " ".join(found.group(2).split()):
                context.notes.append(f"{file.name} sets {found.group(1)} = {found.group(2)} and wins at the next boot")


def apply_hashsize(context: Context, entries: int) -> None:
    """Size of conntrack's hash table: a quarter of the entries, for the next load of the module and now where
    possible."""
    size = entries // 4
    context.write(MODULE_OPTIONS, f"# Made by the role host_tuning.\noptions nf_conntrack hashsize={size}\n")
    have = context.host.read(HASHSIZE).strip()
    if not have.isdigit() or int(have) >= size or context.check:
        return
    try:
        context.host.path(HASHSIZE).write_text(f"{size}\n", encoding="utf-8")
    except OSError as error:
        context.notes.append(f"conntrack's hash size cannot be set here: {error.strerror}")
        return
    context.journal.setdefault("hashsize", {"before": have})
    context.change(f"nf_conntrack hashsize: {have} -> {size}")


def undo(context: Context) -> None:
    """Put back the values that are still ours."""
    for key, entry in sorted(context.journal.get("sysctl", {}).items()):
        have = " ".join(context.host.read(path_of(key)).split())
        if have != entry["set"]:
            context.notes.append(f"{key} is {have} now, not our {entry['set']}: left alone")
            continue
        context.change(f"{key}: {have} -> {entry['before']}")
        if not context.check:
            context.set_kernel(path_of(key), entry["before"])
    before = context.journal.get("hashsize", {}).get("before")
    if before and not context.check:
        context.set_kernel(HASHSIZE, before)
    for part in ("sysctl", "sysctl_refused", "hashsize"):
        context.journal.pop(part, None)


def wide_kernel(host: Host) -> bool:
    """Whether pid_max may go beyond 32768: the kernel has 64 bits."""
    return not re.match(r"(armv|i[3-6]86)", host.machine())
