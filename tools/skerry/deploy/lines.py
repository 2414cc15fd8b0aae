"""What workloads print, from many hosts at once: in the order of time, then as it comes."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from skerry.deploy import show as shown
from skerry.deploy.exchange import Side, connect
from skerry.deploy.kube import places
from skerry.errors import Exit, SkerryError
from skerry.targets.api import Target

_UNITS = {"s": "s", "m": "min", "h": "h", "d": "d"}
_COLOURS = ("cyan", "green", "yellow", "magenta", "blue")


@dataclass(frozen=True)
class Asked:
    """Which lines; ``since`` in journalctl's words, "" for no bound; ``lines``: the last so many, None for all."""

    name: str
    follow: bool
    since: str
    lines: int | None


def since(text: str) -> str:
    """``10m`` and the like, or a time, in journalctl's words. Raises SkerryError (DEPLOY_023)."""
    if found := re.fullmatch(r"(\d+)([smhd])", text):
        return f"-{found[1]}{_UNITS[found[2]]}"
    if text and not re.fullmatch(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d)?)?", text):
        raise SkerryError("DEPLOY_023", f"--since {text!r} is no time", "write 10m, 2h, 1d or 2026-11-21 14:00")
    return text.replace("T", " ")


def _print(console: Console, host: str, colour: str, said: dict[str, Any], as_json: bool) -> None:
    if as_json:
        shown.line({"host": host, **said})
        return
    at = datetime.fromtimestamp(said["at"], UTC).strftime("%H:%M:%S.%f")[:-3]
    text = Text()
    text.append(f"{at} ", style="dim")
    text.append(f"{host} ", style=colour)
    text.append(shown.visible(said["line"]) if console.is_terminal else said["line"])
    console.print(text, soft_wrap=True)


def show(targets: Sequence[Target], asked: Asked, seconds: float, as_json: bool) -> Exit:
    """Print the lines of every host that has the workload.

    Raises:
        SkerryError: DEPLOY_022 when no host that answered has it.
    """
    console = Console()
    colours = {target.name: _COLOURS[at % len(_COLOURS)] for at, target in enumerate(targets)}

    def put(side: str, one: dict[str, Any]) -> None:
        host = one.get("host", side)  # of a cluster's lines each says its own
        _print(console, host, colours.get(host, _COLOURS[0]), one, as_json)

    message = {"op": "logs", "name": asked.name, "follow": asked.follow, "since": asked.since, "lines": asked.lines}
    with connect(targets, seconds, places(targets)) as hosts:
        having = [name for name, host in hosts.open.items() if asked.name in host.view.running]
        if not having and not hosts.faults:
            raise SkerryError("DEPLOY_022", f"no host has a workload {asked.name}", "skerry ps shows what there is",
                              Exit.FAILED)
        if asked.follow:
            _follow([hosts.open[name] for name in having], message, put, hosts.faults)
        else:
            said = hosts.each(having, lambda host: list(host.ask(message, seconds)))
            every = sorted(((one["at"], host, one) for host, lines in said.items() for one in lines),
                           key=lambda entry: entry[:2])
            for _, host, one in every:
                put(host, one)
        faults = {name: fault for name, fault in hosts.faults.items() if fault.code != "DEPLOY_030"}
    for name, fault in faults.items():
        shown_fault = f"{name} was not reached: {fault.code} {fault.cause}"
        Console(stderr=True).print(Text(shown_fault, style="magenta"), soft_wrap=True)
    return Exit.UNREACHABLE if faults else Exit.OK


def _follow(having: Sequence[Side], message: dict[str, Any], put: Callable[[str, dict[str, Any]], None],
            faults: dict[str, SkerryError]) -> None:
    """Lines as they come, until interrupted or until the last host is lost."""
    arrived: queue.SimpleQueue[tuple[str, dict[str, Any] | None]] = queue.SimpleQueue()

    def listen(host: Side) -> None:
        try:
            for said in host.ask(message, None):
                arrived.put((host.target.name, said))
        except SkerryError as error:
            faults[host.target.name] = error
        finally:
            arrived.put((host.target.name, None))

    for host in having:
        threading.Thread(target=listen, args=(host,), daemon=True).start()
    left = len(having)
    while left:
        name, said = arrived.get()
        if said is None:
            left -= 1
        else:
            put(name, said)
