"""Brings this host to what it should have. Checked before the first change; a service that does not come up leaves its
former revision running; what dies half-way leaves one of the two, and the next submission carries on."""

from __future__ import annotations

import base64
import shutil
from typing import Any

from . import containers, handover, images, places, ports, processes, records, store, systemd, units
from .faults import HostError

Desired = dict[str, Any]
Outcome = dict[str, Any]

#: Keys whose change is told without their values.
_QUIET = {"secrets"}


def changes(old: Desired | None, new: Desired) -> dict[str, list[Any]]:
    """Key -> [old, new] of what differs; of secrets only their names."""
    found = {}
    for key in sorted(set(new) | set(old or {})):
        before, after = (old or {}).get(key), new.get(key)
        if key not in ("revision", "format") and before != after:
            if key in _QUIET:
                before, after = ([one["name"] for one in entry or []] for entry in (before, after))
            found[key] = [before, after]
    return found


def outcome(name: str, action: str, **more: Any) -> Outcome:
    """What became of one workload here."""
    return {"name": name, "action": action, **more}


def plan(wanted: list[Desired], owner: str, names: list[str], prune: bool) -> list[Outcome]:
    """What `apply` would do, without doing it.

    ``names``: what the owner submitted, here or elsewhere. Of the owner's own workloads go those that were submitted
    for other hosts, and with ``prune`` those that were not submitted at all; nobody else's are touched.
    """
    found = []
    shown = systemd.show(unit for desired in wanted for unit in units.active(desired))
    for desired in wanted:
        old = records.current(desired["name"])
        if old is not None and old["owner"] != desired["owner"]:
            found.append(outcome(desired["name"], "failed", error=_foreign(desired, old).as_dict(), kept=True))
        elif old is None:
            found.append(outcome(desired["name"], "create", changes=changes(None, desired)))
        elif old["revision"] != desired["revision"]:
            found.append(outcome(desired["name"], "change", changes=changes(old, desired)))
        elif not processes.healthy(desired, shown):
            found.append(outcome(desired["name"], "repair"))
        else:
            found.append(outcome(desired["name"], "unchanged"))
    kept = {desired["name"] for desired in wanted}
    leaving = [name for name in records.names() if name not in kept and (prune or name in names)]
    found += [outcome(name, "remove") for name in leaving if (records.current(name) or {}).get("owner") == owner]
    return found


def _foreign(desired: Desired, old: Desired) -> HostError:
    return HostError("HOST_022", f"{desired['name']} belongs to {old['owner']}, not to {desired['owner']}",
                     "give it another name, or undeploy the other one first")  # fmt: skip


def _check(desired: Desired) -> None:
    """Everything that can be known to be wrong before anything is changed."""
    lacking = store.lacking(records.digests(desired))
    if lacking:
        raise HostError("HOST_023", f"{desired['name']}: this host has no file {lacking[0][:16]}, and none came",
                        "name the module's file instead of its digest")
    if desired["module"]["form"] == "image":
        images.id_of(desired["module"]["name"])
    units.files(desired)
    mine = {one["port"] for one in ports.of(desired)}
    for name in records.names() if mine else ():
        taken = mine & {one["port"] for one in ports.of(records.current(name) or {})}
        if taken and name != desired["name"]:
            raise HostError("HOST_064", f"{desired['name']}: port {min(taken)} is {name}'s on this host",
                            f"choose another port, or undeploy {name} first")  # fmt: skip


def apply(
    wanted: list[Desired], secrets: dict[str, dict[str, str]], owner: str, names: list[str], prune: bool
) -> list[Outcome]:
    """Create, change, repair and remove (`plan`); one outcome a workload. ``secrets``: name -> secret -> base64."""
    with records.locked():
        planned = {entry["name"]: entry for entry in plan(wanted, owner, names, prune)}
        by_name = {desired["name"]: desired for desired in wanted}
        todo: list[Desired] = []
        found: list[Outcome] = []
        for name, entry in planned.items():
            if entry["action"] in ("unchanged", "failed"):
                found.append(entry)
            elif entry["action"] != "remove":
                try:
                    _check(by_name[name])
                    todo.append(by_name[name])
                except HostError as error:
                    found.append(outcome(name, "failed", error=error.as_dict(), kept=records.current(name) is not None))
        numbers = {desired["name"]: _write(desired, secrets.get(desired["name"], {})) for desired in todo}
        if todo:
            systemd.call("daemon-reload")
        found += [_bring_up(desired, numbers[desired["name"]], planned[desired["name"]]) for desired in todo]
        found += [remove(name) for name, entry in planned.items() if entry["action"] == "remove"]
        if todo or any(entry["action"] == "removed" for entry in found):
            systemd.call("daemon-reload")
            _collect()
        return found


def _collect() -> None:
    """Remove files and images that nothing refers to any more."""
    store.collect(records.used())
    images.collect(records.used_images())


def _write(desired: Desired, secrets: dict[str, str]) -> int:
    number = records.keep(desired)
    processes.write_secrets(desired, {name: base64.b64decode(value) for name, value in secrets.items()})
    processes.write(desired)
    return number


def _bring_up(desired: Desired, number: int, planned: Outcome) -> Outcome:
    """Start a revision; put the former one back when it does not come up."""
    name = desired["name"]
    old = records.current(name)
    mine = set(units.files(desired))
    former = [unit for unit in processes.ours(name) if unit not in mine]
    done = {"create": "created", "change": "changed", "repair": "repaired"}[planned["action"]]
    try:
        _start(desired, planned["action"])
    except HostError as error:
        _step_back(desired, old, number)
        return outcome(name, "failed", error=error.as_dict(), kept=old is not None)
    processes.enable(desired)
    records.enforce(name, number)
    processes.retire(desired, former)
    processes.tidy(name)
    more = {"changes": planned["changes"]} if "changes" in planned else {}
    return outcome(name, done, **more)


def _start(desired: Desired, action: str) -> None:
    kind, unit = desired["kind"], units.service(desired)
    if kind == "service":
        processes.start(desired, action == "repair")
    elif kind == "schedule":
        systemd.call("restart", units.timer(desired))
    elif action != "repair":
        systemd.call("stop", unit, check=False)
        systemd.call("reset-failed", unit, check=False)
        systemd.call("start", "--no-block", unit)


def _step_back(desired: Desired, old: Desired | None, number: int) -> None:
    """Take a revision away that did not come up. For kinds that have one unit, the former text is written again."""
    kept = set(units.files(old)) if old is not None else set()
    processes.take_away([unit for unit in units.files(desired) if unit not in kept])
    if old is not None and processes.write(old):
        systemd.call("daemon-reload")
        if old["kind"] == "schedule":
            systemd.call("restart", units.timer(old))
    records.drop(desired["name"], number)
    processes.tidy(desired["name"])
    if old is None:
        records.forget(desired["name"])
    systemd.call("daemon-reload")


def remove(name: str) -> Outcome:
    """Take a workload away, with its units, secrets and files; directories of the host stay."""
    handover.close(processes.ours(name), (records.current(name) or {}).get("drain") or 0.0)
    processes.take_away(processes.ours(name))
    records.forget(name)
    return outcome(name, "removed")


def undeploy(names: list[str]) -> list[Outcome]:
    """Remove workloads by name; one that is not here is told as absent."""
    with records.locked():
        there = set(records.names()) | {name for name in names if processes.ours(name) or places.folder(name).exists()}
        found = [remove(name) if name in there else outcome(name, "absent") for name in names]
        systemd.call("daemon-reload")
        _collect()
        return found


def clear() -> None:
    """Take every workload away, and this side's whole state with them."""
    undeploy(records.names())
    containers.forget()
    for place in (places.STATE, places.RUN):
        shutil.rmtree(place, ignore_errors=True)


def rollback(name: str, revision: str) -> Outcome:
    """Bring a kept revision into force again; the one before the present one where none is named."""
    with records.locked():
        present = records.current(name)
        if present is None:
            raise HostError("HOST_024", f"this host has no workload {name}", "skerry ps shows what there is")
        known = records.revisions(name)
        if revision:
            number = records.find(name, revision)
        else:
            earlier = [one for one in known if (records.read(name, one) or {})["revision"] != present["revision"]]
            number = earlier[-1] if earlier else None
        desired = records.read(name, number) if number is not None else None
        if number is None or desired is None:
            what = "revision " + revision if revision else "former revision"
            raise HostError("HOST_025", f"{name} has no {what} here", f"kept are {', '.join(map(str, known))}")
        if desired["revision"] == present["revision"]:
            return outcome(name, "unchanged")
        _check(desired)
        processes.write(desired)
        systemd.call("daemon-reload")
        planned = outcome(name, "change", changes=changes(present, desired))
        done = _bring_up(desired, number, planned)
        systemd.call("daemon-reload")
        return {**done, "action": "rolled back"} if done["action"] == "changed" else done
