"""Names and unit files of a service's ports: sockets that systemd holds, and the relay that takes from them.

Each start of a service with ports is an instance of its own, told from the one before by its *slot*: the two run beside
each other for a while, and listen on ports of their own which only the relay reaches.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from . import places, systemd

Desired = dict[str, Any]
#: Instances that can be told from each other.
SLOTS = "123456789"
#: Stands for the slot in a command line; systemd fills it in (``%i``). No argument can hold this character.
SLOT = "\0"

_RELAY_SANDBOX = systemd.HARDENED + """\
DynamicUser=yes
CapabilityBoundingSet=
ProtectHome=yes
ProtectProc=invisible
ProcSubset=pid
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
MemoryDenyWriteExecute=yes
SystemCallFilter=~@privileged @resources
LimitNOFILE=8192
TasksMax=4
MemoryMax=192M
"""


def of(desired: Desired) -> list[dict[str, Any]]:
    """``port`` and ``protocol`` of each port; [] for a workload without."""
    return list(desired.get("ports") or [])


def apart(desired: Desired) -> bool:
    """Whether its instances have a network of their own, which nobody but its relay reaches."""
    return desired["rung"] == "process" and not desired["network"]


def _relay(desired: Desired) -> str:
    """Tells relays of one workload apart: another list of ports is another relay, so that none is ever restarted."""
    what = json.dumps([of(desired), apart(desired)], sort_keys=True)
    return f"{desired['name']}.relay.{hashlib.sha256(what.encode()).hexdigest()[:8]}"


def relay(desired: Desired) -> str:
    """The relay's unit."""
    return f"skerry-{_relay(desired)}.service"


def control(unit: str) -> Path:
    """The socket at which the relay of that unit is spoken to, by root alone."""
    return places.RUN / Path(unit).stem


def target(unit: str) -> Path:
    """Where the instance in force is noted for the relay of that unit."""
    name, _, rest = Path(unit).stem.partition(".")
    return places.folder(name[len("skerry-") :]) / rest


def sockets(desired: Desired) -> list[str]:
    """Units of the listening sockets, in the order of the ports; what the relay is spoken to by is last."""
    found = [f"skerry-{desired['name']}.port.{one['port']}.socket" for one in of(desired)]
    return [*found, f"skerry-{_relay(desired)}.socket"] if found else []


def slot(desired: Desired) -> str:
    """The slot of this instance where one is meant, else of the one in force; "" for none yet."""
    if "slot" in desired:
        return str(desired["slot"])
    try:
        return str(json.loads(target(relay(desired)).read_text())["slot"])
    except FileNotFoundError:
        return ""


def inner(desired: Desired, which: str) -> list[str]:
    """Ports on which an instance listens on the rung process. They differ by slot, and, for those that share the host's
    network, by workload; below the kernel's own range."""
    place = int(hashlib.sha256(desired["name"].encode()).hexdigest(), 16) % 100
    return [f"2{place:02d}{at}{which}" for at in range(len(of(desired)))]


def environment(desired: Desired) -> dict[str, str]:
    """Where the module is to listen, in a unit's text (`SLOT`)."""
    mine = inner(desired, SLOT)
    found = {f"PORT_{one['port']}": port for one, port in zip(of(desired), mine)}
    return {"PORT": mine[0], **found} if mine else {}


def files(desired: Desired) -> dict[str, str]:
    """Unit name -> text; {} for a workload without ports."""
    names = sockets(desired)
    if not names:
        return {}
    about, ours = f"of Skerry workload {desired['name']}", f"Service={relay(desired)}\n"
    texts = [f"[Unit]\nDescription=Port {port} {about}\n\n[Socket]\nListenStream={port}\nFileDescriptorName={port}\n"
             f"NoDelay=yes\nKeepAlive=yes\n{ours}" for port in (one["port"] for one in of(desired))]  # fmt: skip
    texts.append(f"[Unit]\nDescription=Control of the relay {about}\n\n[Socket]\n"
                 f"ListenStream={control(relay(desired))}\nSocketMode=0600\nFileDescriptorName=control\n"
                 f"RemoveOnStop=yes\n{ours}")  # fmt: skip
    words = " ".join(f"{one['port']}={one['protocol']}" for one in of(desired))
    texts.append(f"[Unit]\nDescription=Relay {about}\nStartLimitIntervalSec=0\n\n[Service]\nType=exec\n"
                 f"Sockets={' '.join(names)}\nSyslogIdentifier=skerry-{desired['name']}.relay\n"
                 f"ExecStart={places.COMMAND} relay {words}\nLoadCredential=target:{target(relay(desired))}\n"
                 "Restart=always\nRestartSec=100ms\nTimeoutStopSec=5s\n"
                 f"{'PrivateNetwork=yes' if apart(desired) else ''}\n{_RELAY_SANDBOX}")  # fmt: skip
    return {name: places.MARK + text for name, text in zip([*names, relay(desired)], texts)}
