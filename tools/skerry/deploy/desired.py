"""What a host should have: the one format, made here, kept by the host side, and compared there.

A desired workload is plain JSON (`FORMAT`); its revision is the SHA-256 of its canonical form, so that an unchanged
submission is known by one comparison.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from skerry.deploy.kube import image_of
from skerry.deploy.load import Submitted
from skerry.deploy.placement import Assignment

FORMAT = 1


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no blanks: equal things have equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def revision(desired: dict[str, Any]) -> str:
    """SHA-256 of everything but the revision itself, in hexadecimal."""
    return hashlib.sha256(canonical({key: value for key, value in desired.items() if key != "revision"})).hexdigest()


def changes(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, list[Any]]:
    """Key -> [old, new] of what differs between two desired workloads; of secrets only their names. Hosts say the same
    (skerry_host.apply), from their own copy."""
    found = {}
    for key in sorted(set(new) | set(old or {})):
        before, after = (old or {}).get(key), new.get(key)
        if key not in ("revision", "format") and before != after:
            if key == "secrets":
                before, after = ([one["name"] for one in entry or []] for entry in (before, after))
            found[key] = [before, after]
    return found


def _code_lost(one: Submitted, place: Assignment) -> bool:
    """Whether its exit code may not reach us: crun's WasmEdge tells 0 whatever code a module ends with."""
    path = one.module.path
    return place.runtime["name"] == "crun-wasm" and (path is None or b"\x09proc_exit" in path.read_bytes())


def desired(one: Submitted, place: Assignment) -> dict[str, Any]:
    """The desired workload of one host. Sizes in bytes, times in seconds, digests SHA-256 in hexadecimal."""
    workload, module = one.workload, one.module
    found: dict[str, Any] = {
        "format": FORMAT,
        "name": workload.name,
        "owner": one.owner,
        "kind": "service" if module.form == "image" else workload.kind,
        "rung": place.rung,
        "runtime": place.runtime,
        "module": {"digest": module.digest, "size": module.size, "name": module.name, "form": module.form},
        "args": workload.args,
        "env": workload.env,
        "secrets": [{"name": name, "mount": workload.secrets[name].mount, "fingerprint": one.fingerprint(name)}
                    for name in sorted(workload.secrets)],
        "stdin": one.stdin,
        "directories": [entry.model_dump() for entry in workload.directories],
        "files": [{"guest": guest, "digest": key} for guest, key in sorted(one.files.items())],
        "network": workload.network,
        "limits": workload.limits.model_dump(),
        "restart": workload.restarts,
        "readiness": None if workload.readiness is None else workload.readiness.model_dump(exclude_none=True),
        "schedule": None if workload.schedule is None else workload.schedule.model_dump(),
    }
    if workload.ports:
        usual = "http" if module.form == "http" else "tcp"
        found["ports"] = [{"port": entry.port, "protocol": entry.protocol or usual,
                           **({"target": entry.target} if entry.target else {})} for entry in workload.ports]
        found["drain"] = workload.drain
    if place.pods is not None:
        image = module.name if module.form == "image" else image_of(module.name, module.digest)
        found["pods"] = {**place.pods, "image": image, "code_lost": _code_lost(one, place)}
    if module.form == "image":
        found |= {"user": workload.user, "scratch": workload.scratch}
    found["revision"] = revision(found)
    return found
