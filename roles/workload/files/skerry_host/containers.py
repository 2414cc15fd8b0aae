"""The rung container: workloads as Docker containers, each with a small process of its unit beside it.

systemd starts, restarts and times the unit as it does on the rung process; what differs is what the unit starts.
Modules are not packed into images: a module's file of the store is mounted into an empty one, so that what was verified
is what runs, and lies on the disk once.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any, NoReturn

from . import argv, docker_api, images, places, store, systemd, units
from .faults import HostError

Desired = dict[str, Any]
LABEL = "dev.skerry.workload"
#: The image into which modules are mounted.
EMPTY = "skerry.local/empty:1"
#: Users of containers: a range that systemd leaves free (systemd.io, "UIDs and GIDs").
_FIRST_USER, _USERS = 1879048192, 1 << 27
#: Where containers are that have ports but may open no connections.
INSIDE = "skerry-inside"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
#: What the unit's own process is kept from: all that it does is to speak to Docker, and to look at what the container
#: has open and has written.
SANDBOX = systemd.HARDENED + """\
CapabilityBoundingSet=CAP_SYS_PTRACE CAP_DAC_READ_SEARCH
PrivateNetwork=yes
ProtectHome=read-only
RestrictAddressFamilies=AF_UNIX
MemoryDenyWriteExecute=yes
MemoryMax=64M
TasksMax=8
"""


def is_image(desired: Desired) -> bool:
    """Whether it is an image of others instead of a module."""
    return bool(desired["module"]["form"] == "image")


def name(desired: Desired) -> str:
    """The container's name: its unit's, as far as Docker takes it."""
    return units.service(desired)[: -len(".service")].replace("@", ".")


def user(desired: Desired) -> int:
    """The numeric user of all revisions of a workload; where the file names none, nobody else on the host has it."""
    if desired.get("user"):
        return int(desired["user"].partition(":")[0])
    number = int.from_bytes(hashlib.sha256(desired["name"].encode()).digest()[:8], "big")
    return _FIRST_USER + number % _USERS


def lines(desired: Desired) -> list[str]:
    """See `rungs.Rung`."""
    found = ["Type=notify", "NotifyAccess=main"]
    found.append(f"ExecStart={places.COMMAND} container {units.hook(desired)}")
    if desired["limits"]["time"] is not None:
        found.append(f"RuntimeMaxSec={desired['limits']['time']:g}")
    if any(not one["mount"] for one in desired["secrets"]):
        found.append(f"EnvironmentFile={units.secrets(desired)}/environment")
    return [*found, *SANDBOX.splitlines()]


# -- what Docker is asked for ----------------------------------------------------------------------------------------


def inner(port: dict[str, Any]) -> int:
    """The port inside for one of the host's."""
    return int(port.get("target") or port["port"])


def _environment(desired: Desired) -> list[str]:
    """Variables; a PATH of ``/`` lets a module be found by its bare name, which is then its argv[0] on every rung."""
    found = dict(desired["env"])
    found.update({one["name"]: os.environ[one["name"]] for one in desired["secrets"] if not one["mount"]})
    if not is_image(desired):
        found.setdefault("PATH", "/")
    ports = desired.get("ports") or []
    for entry in ports:
        found[f"PORT_{entry['port']}" if len(ports) > 1 else "PORT"] = str(inner(entry))
    return [f"{key}={value}" for key, value in sorted(found.items())]


def _mounts(desired: Desired) -> list[dict[str, Any]]:
    def bind(source: str | Path, target: str, read_only: bool = True) -> dict[str, Any]:
        return {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": read_only}

    found = [bind(entry["host"], entry["guest"], entry["read_only"]) for entry in desired["directories"]]
    found += [bind(store.path(entry["digest"]), entry["guest"]) for entry in desired["files"]]
    found += [bind(units.secrets(desired) / one["name"], one["mount"]) for one in desired["secrets"] if one["mount"]]
    if not is_image(desired):
        found.append(bind(store.path(desired["module"]["digest"]), "/" + argv.module_name(desired)))
    return found


def _limits(desired: Desired) -> dict[str, Any]:
    limits = desired["limits"]
    ceilings = {"nofile": limits["open_files"], "core": 0}
    if limits["file_size"] is not None:
        ceilings["fsize"] = limits["file_size"]
    found: dict[str, Any] = {
        "PidsLimit": limits["processes"],
        "Ulimits": [{"Name": key, "Soft": value, "Hard": value} for key, value in ceilings.items()],
    }
    if limits["memory"] is not None:
        found.update(Memory=limits["memory"], MemorySwap=limits["memory"])
    if limits["cpu"] is not None:
        found["NanoCpus"] = round(limits["cpu"] * 1e9)
    return found


def _network(desired: Desired) -> str:
    if desired["network"]:
        return "bridge"
    return INSIDE if desired.get("ports") else "none"


def body(desired: Desired) -> dict[str, Any]:
    """What Docker is asked to create."""
    own = {"NetworkMode": _network(desired), "LogConfig": {"Type": "none"}, "Mounts": _mounts(desired),
           "ReadonlyRootfs": True, "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges:true"],
           "RestartPolicy": {"Name": "no"}, "OomScoreAdj": 500, **_limits(desired)}  # fmt: skip
    found: dict[str, Any] = {
        "Env": _environment(desired), "User": _user_and_group(desired),
        "Labels": {LABEL: desired["name"], f"{LABEL}.revision": desired["revision"]},
        "OpenStdin": desired["stdin"] is not None, "StdinOnce": True, "AttachStdin": desired["stdin"] is not None,
        "AttachStdout": True, "AttachStderr": True, "HostConfig": own,
    }  # fmt: skip
    if is_image(desired):
        size = f",size={desired['limits']['memory']}" if desired["limits"]["memory"] is not None else ""
        own["Tmpfs"] = dict.fromkeys(("/tmp", *desired["scratch"]), f"rw,nosuid,nodev,mode=1777{size}")
        found["Image"] = images.id_of(desired["module"]["name"])
        found.update({"Cmd": desired["args"]} if desired["args"] else {})
        return found
    own.update(Runtime=desired["runtime"]["command"], Annotations=desired["runtime"]["annotations"])
    found.update(Image=EMPTY, WorkingDir="/", Entrypoint=[argv.module_name(desired)], Cmd=desired["args"])
    return found


def _user_and_group(desired: Desired) -> str:
    given = str(desired.get("user") or "")
    return given if ":" in given else f"{user(desired)}:{user(desired)}"


def _empty_image() -> bytes:
    """An image with nothing in it, as ``docker load`` takes it."""
    layer = b"\0" * 10240
    digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps({
        "architecture": _ARCHITECTURES.get(os.uname().machine, os.uname().machine), "os": "linux",
        "created": "1970-01-01T00:00:00Z", "config": {"Labels": {LABEL: ""}},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]},
    }).encode()  # fmt: skip
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": [EMPTY], "Layers": [digest + "/layer.tar"]}]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as image:
        files = {config_name: config, digest + "/layer.tar": layer, "manifest.json": json.dumps(manifest).encode()}
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            image.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def _network_inside() -> None:
    """A network without a way out, in which containers do not reach each other; the host reaches them."""
    options = {"com.docker.network.bridge.enable_icc": "false"}
    wanted = {"Name": INSIDE, "Driver": "bridge", "Internal": True, "Options": options, "Labels": {LABEL: ""}}
    try:
        docker_api.request("GET", f"/networks/{INSIDE}", "look at its networks")
    except docker_api.DockerError as error:
        if error.status != 404:
            raise
        docker_api.request("POST", "/networks/create", "make a network", wanted)


def forget() -> None:
    """Remove what containers of workloads have in common; a Docker that is not there any more has nothing of it."""
    for what in (f"networks/{INSIDE}", f"images/{EMPTY}"):
        try:
            docker_api.request("DELETE", f"/{what}", "remove what containers share")
        except HostError as error:
            if getattr(error, "status", 404) != 404:
                raise


def prepare(desired: Desired) -> None:
    """See `rungs.Rung`."""
    if _network(desired) == INSIDE:
        _network_inside()
    if not is_image(desired):
        os.chmod(store.path(desired["module"]["digest"]), 0o555)  # crun starts nothing that is not executable
        if docker_api.image(EMPTY) is None:
            docker_api.request("POST", "/images/load?quiet=1", "load an empty image", raw=_empty_image())
    for one in desired["secrets"]:
        if one["mount"]:
            os.chown(units.secrets(desired) / one["name"], user(desired), user(desired))


def run(desired: Desired) -> NoReturn:
    """Be what the unit starts: `supervise`, in a program that holds nothing else in memory."""
    spec = {"name": name(desired), "body": body(desired), "polite": is_image(desired),
            "stdin": str(store.path(desired["stdin"])) if desired["stdin"] is not None else None,
            "limits": units.watched(desired) if units.counted(desired) else None}  # fmt: skip
    fd = os.memfd_create("skerry", 0)  # secrets are in it: it has no name
    os.write(fd, json.dumps(spec).encode())
    os.lseek(fd, 0, os.SEEK_SET)
    kept = {key: value for key, value in os.environ.items() if key == "NOTIFY_SOCKET"}
    os.execve(places.COMMAND, [places.COMMAND, "beside", str(fd)], kept)


def take_down(desired: Desired) -> None:
    """See `rungs.Rung`."""
    docker_api.remove(name(desired))


def address(desired: Desired) -> str:
    """See `rungs.Rung`; also "" where it has no network."""
    networks = ((docker_api.inspect(name(desired)) or {}).get("NetworkSettings") or {}).get("Networks") or {}
    return next((str(one["IPAddress"]) for one in networks.values() if one.get("IPAddress")), "")


def memory(desired: Desired, _unit: dict[str, str]) -> int | None:
    """See `rungs.Rung`."""
    try:
        said = docker_api.request("GET", f"/containers/{name(desired)}/stats?stream=0&one-shot=1", "measure it")
    except HostError:
        return None
    usage = (said or {}).get("memory_stats", {}).get("usage")
    return int(usage) if usage else None
