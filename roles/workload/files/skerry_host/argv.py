"""The command line that runs a workload's module, and the private folder in which its files get the names it knows."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

from . import places, ports, store
from .faults import HostError

#: Expanded by systemd in ExecStart: where LoadCredential= puts files.
CREDENTIALS = "${CREDENTIALS_DIRECTORY}"
Desired = dict[str, Any]


def stage(desired: Desired) -> Path:
    """Where the files of a revision lie under their own names."""
    return places.folder(str(desired["name"])) / "files" / str(desired["revision"])[:16]


def module_name(desired: Desired) -> str:
    """What the module finds as its own name (argv[0])."""
    return str(desired["module"]["name"]).replace("/", "_") or "module"


def _parents(desired: Desired) -> dict[str, Path]:
    """Guest directory -> host directory of the files that travel with a workload."""
    found: dict[str, Path] = {}
    for entry in desired["files"]:
        found.setdefault(str(PurePosixPath(entry["guest"]).parent), stage(desired) / f"dir-{len(found)}")
    return found


def place_files(desired: Desired) -> None:
    """Link the revision's files from the store; safe to do again. Containers are given those of the store itself."""
    if desired["rung"] == "container":
        return
    wanted = [(stage(desired) / "module" / module_name(desired), desired["module"]["digest"])]
    parents = _parents(desired)
    for entry in desired["files"]:
        guest = PurePosixPath(entry["guest"])
        wanted.append((parents[str(guest.parent)] / guest.name, entry["digest"]))
    for path, digest in wanted:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and os.path.samefile(path, store.path(digest)):
            continue
        part = path.with_name(f".{path.name}.new")
        part.unlink(missing_ok=True)
        os.link(store.path(digest), part)
        part.replace(path)


def _directories(desired: Desired) -> list[tuple[str, str]]:
    """Pairs (host, guest) of everything that the module may open."""
    pairs = [(entry["host"], entry["guest"]) for entry in desired["directories"]]
    pairs += [(str(host), guest) for guest, host in _parents(desired).items()]
    mounts = sorted({str(PurePosixPath(one["mount"]).parent) for one in desired["secrets"] if one["mount"]})
    return pairs + [(CREDENTIALS, guest) for guest in mounts]


def _wasmtime(desired: Desired) -> list[str]:
    """wasmtime's command and its options. Its user has no home for a cache. With ports and no network, all that there
    is of a network is what it shares with its relay."""
    if desired["module"]["form"] == "http":
        address = f"127.0.0.1:{ports.inner(desired, ports.SLOT)[0]}"
        argv = ["serve", "-C", "cache=n", "--addr", address, "--no-logging-prefix", "-S", "cli"]
    else:
        argv = ["run", "-C", "cache=n", "--argv0", module_name(desired)]
    names = ",allow-ip-name-lookup" if desired["network"] else ""
    opens = desired["network"] or (ports.of(desired) and desired["module"]["form"] != "http")
    return [*argv, "-S", f"inherit-network,tcp,udp{names}"] if opens else argv


def command(desired: Desired) -> list[str]:
    """The runtime's argument vector.

    Raises:
        HostError: HOST_020 for what this runtime's command cannot do.
    """
    runtime, module = desired["runtime"], stage(desired) / "module" / module_name(desired)
    hidden = [one["name"] for one in desired["secrets"] if not one["mount"]]
    argv = [str(runtime["command"])]
    if runtime["name"] == "wasmtime":
        argv += _wasmtime(desired)
        for host, guest in _directories(desired):
            argv += ["--dir", f"{host}::{guest}"]
        for name in hidden:
            argv += ["--env", name]  # taken from the unit's environment: never on a command line
    else:
        if hidden:
            raise HostError(
                "HOST_020",
                f"WasmEdge takes variables on its command line only, where everybody sees the secret {hidden[0]}",
                "give the secret a mount, or install wasmtime (role wasm_runtime)",
            )
        argv += ["--force-interpreter"]
        for host, guest in _directories(desired):
            argv += ["--dir", f"{guest}:{host}"]
    for name, value in sorted({**desired["env"], **ports.environment(desired)}.items()):
        argv += ["--env", f"{name}={value}"]
    return [*argv, "--", str(module), *desired["args"]]
