"""systemd's timer on the controller that reconciles an inventory again and again."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from skerry import paths
from skerry.deploy import record, show
from skerry.errors import Exit, SkerryError

#: Where units lie; what says that systemd runs (sd_booted(3)).
UNITS, RUNNING = Path("/etc/systemd/system"), Path("/run/systemd/system")
_MARK = "# Written by skerry reconcile --install-timer; changes are lost.\n"


@dataclass(frozen=True)
class Done:
    """What was done: installed, unchanged, removed or absent."""

    action: str
    timer: str


def name(inventory: Sequence[str]) -> str:
    """Name of an inventory's units, without their endings."""
    return f"skerry-reconcile-{record.path(inventory).stem}"


def _quoted(word: str) -> str:
    """A word of a command line in a unit (systemd.service(5))."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def units(inventory: Sequence[str], every: str, user: str) -> dict[str, str]:
    """Unit name -> text. A host that is off (exit code 4) is no failure of the service."""
    sources = [str(Path(source).resolve()) for source in inventory]
    words = [str(paths.root() / "skerry"), "reconcile", *(word for one in sources for word in ("-i", one)), "--json"]
    about = f"Skerry: workloads of {', '.join(sources)} in their wanted state".replace("%", "%%")
    environment = Path("/etc/skerry/reconcile.env")
    service = ["[Unit]", f"Description={about}", "Wants=network-online.target", "After=network-online.target", "",
               "[Service]", "Type=oneshot", f"User={user}", f"WorkingDirectory={paths.root()}",
               f"EnvironmentFile=-{environment}", f"ExecStart={' '.join(map(_quoted, words))}",
               "SuccessExitStatus=4", "TimeoutStartSec=30min", "Nice=5"]  # fmt: skip
    timer = ["[Unit]", f"Description={about}", "", "[Timer]", f"OnBootSec={every}", f"OnUnitInactiveSec={every}",
             "RandomizedDelaySec=10s", "AccuracySec=1s", "", "[Install]", "WantedBy=timers.target"]  # fmt: skip
    return {f"{name(inventory)}.{kind}": _MARK + "\n".join(lines) + "\n"
            for kind, lines in (("service", service), ("timer", timer))}


def _systemctl(*words: str) -> str:
    done = subprocess.run(["systemctl", "--no-ask-password", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[-300:]
        raise SkerryError("DEPLOY_107", f"systemctl {' '.join(words)} failed: {said}", "journalctl -xe says more",
                          Exit.FAILED)
    return done.stdout


def _check() -> None:
    if not RUNNING.is_dir():
        raise SkerryError("DEPLOY_105", "systemd does not run this machine",
                          "install the timer on a controller with systemd, or call skerry reconcile from cron",
                          Exit.PREREQUISITE)
    if os.geteuid() != 0:
        raise SkerryError("DEPLOY_106", "units of the system belong to root",
                          "sudo ./skerry reconcile --install-timer: the service runs as who calls sudo",
                          Exit.PREREQUISITE)


def install(inventory: Sequence[str], every: str) -> Done:
    """Write the units and start the timer; nothing where they are as they should be.

    Raises:
        SkerryError: DEPLOY_105 (no systemd), DEPLOY_106 (not root), DEPLOY_107 (systemd refuses), DEPLOY_108 (no time).
    """
    _check()
    checked = subprocess.run(["systemd-analyze", "timespan", every], capture_output=True, text=True, check=False)
    if checked.returncode != 0 or not every.strip():
        raise SkerryError("DEPLOY_108", f"--every {every!r} is no time span", "write 5min or 1h")
    user = os.environ.get("SUDO_USER") or pwd.getpwuid(os.geteuid()).pw_name
    changed = False
    for unit, text in units(inventory, every, user).items():
        place = UNITS / unit
        if not place.exists() or place.read_text(encoding="utf-8") != text:
            part = place.with_suffix(".part")
            part.write_text(text, encoding="utf-8")
            part.replace(place)
            changed = True
    timer = f"{name(inventory)}.timer"
    if changed:
        _systemctl("daemon-reload")
        _systemctl("enable", timer)
        _systemctl("restart", timer)
    elif "ActiveState=active" not in _systemctl("show", "--property", "ActiveState", timer):
        _systemctl("enable", "--now", timer)
        changed = True
    return Done("installed" if changed else "unchanged", timer)


def remove(inventory: Sequence[str]) -> Done:
    """Stop the timer and remove the units. Raises as `install` does."""
    _check()
    timer = f"{name(inventory)}.timer"
    there = [UNITS / f"{name(inventory)}.{kind}" for kind in ("timer", "service")]
    there = [place for place in there if place.exists()]
    if not there:
        return Done("absent", timer)
    _systemctl("disable", "--now", timer)
    for place in there:
        place.unlink()
    _systemctl("daemon-reload")
    return Done("removed", timer)


def tell(done: Done, as_json: bool) -> None:
    """Print what was done."""
    if as_json:
        show.line(asdict(done))
    else:
        Console().print(f"{done.timer}: {done.action}")
