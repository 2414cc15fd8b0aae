"""Runs one playbook as a process of its own through ansible-runner."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ansible_runner

from skerry import paths
from skerry.errors import Exit, SkerryError
from skerry.provision.progress import Progress
from skerry.provision.refusals import refusals, unknown_hosts
from skerry.provision.view import View

KEPT_RUNS = 20  #: folders of former runs kept under .skerry/runs
GRACE = 15.0  #: seconds that Ansible has to end its running tasks after Ctrl-C


@dataclass(frozen=True)
class PlaybookRun:
    """What to run.

    Attributes:
        playbook: path of the playbook.
        inventories: paths of inventories (``-i``), in Ansible's order.
        options: further words for ansible-playbook (``--limit``, ``--tags``, ...).
        environment: variables set for the process, over the present ones.
    """

    playbook: Path
    inventories: Sequence[Path]
    options: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How it ended.

    Attributes:
        status: successful, failed, unreachable or interrupted.
        progress: what each host got.
        log: the file with all that Ansible printed.
        seconds: wall-clock time of the whole run.
    """

    status: str
    progress: Progress
    log: Path
    seconds: float

    @property
    def exit_code(self) -> Exit:
        if self.status == "failed" and not self.progress.hosts:
            return Exit.USAGE
        return {
            "successful": Exit.OK,
            "unreachable": Exit.UNREACHABLE,
            "interrupted": Exit.INTERRUPTED,
        }.get(self.status, Exit.FAILED)


class _Interrupts:
    """The first Ctrl-C is passed on to Ansible, which ends its tasks; after ``GRACE`` seconds it is stopped hard.

    A second Ctrl-C is Python's own KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.asked_at: float | None = None
        self.ansible: int | None = None  #: process id, told by the first event
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Interrupts:
        self._former = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def overdue(self) -> bool:
        """True when Ansible was asked to stop and has not within ``GRACE`` seconds."""
        return self.asked_at is not None and (self.ansible is None or time.monotonic() - self.asked_at > GRACE)

    def _take(self, number: int, frame: object) -> None:
        if self.asked_at is not None:
            raise KeyboardInterrupt
        self.asked_at = time.monotonic()
        if self.ansible is not None:
            # It has a terminal of its own, so that the keyboard's signal did not reach it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(os.getpgid(self.ansible), signal.SIGINT)


def _prune(runs: Path) -> None:
    """Remove old folders; one younger than a day may belong to a run that still goes on."""
    oldest = time.time() - 86400
    for old in sorted(path for path in runs.iterdir() if path.is_dir())[:-KEPT_RUNS]:
        if old.stat().st_mtime < oldest:
            shutil.rmtree(old, ignore_errors=True)


def _environment(run: PlaybookRun) -> dict[str, str]:
    return {
        "ANSIBLE_CONFIG": str(paths.root() / "ansible.cfg"),
        "ANSIBLE_ROLES_PATH": str(paths.root() / "roles"),
        "ANSIBLE_COLLECTIONS_PATH": str(paths.root() / "collections"),
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_NOCOLOR": "1",
        "PYTHONUNBUFFERED": "1",
        # ansible-runner would switch the check of host keys off.
        "ANSIBLE_HOST_KEY_CHECKING": os.environ.get("ANSIBLE_HOST_KEY_CHECKING", "True"),
        **run.environment,
    }


def check(run: PlaybookRun) -> None:
    """Refuse what cannot work before anything is started.

    Raises:
        SkerryError: PROVISION_001 no such inventory, PROVISION_002 no such playbook.
    """
    for inventory in run.inventories:
        # A comma makes it a list of host names, as for Ansible itself.
        if not inventory.exists() and "," not in str(inventory):
            raise SkerryError(
                "PROVISION_001",
                f"there is no inventory at {inventory}",
                "name a folder or file, such as -i inventories/lab",
            )
    if not run.playbook.is_file():
        raise SkerryError(
            "PROVISION_002",
            f"there is no playbook at {run.playbook}",
            "name one of playbooks/*.yml, or leave the option out",
        )


def run_playbook(run: PlaybookRun, view: View) -> Outcome:
    """Run it to its end; shows progress in ``view``; the log and the events stay under ``.skerry/runs/<time>``.

    Raises:
        SkerryError: see `check`.
        KeyboardInterrupt: at the second Ctrl-C.
    """
    check(run)
    runs = paths.state() / "runs"
    folder = runs / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{run.playbook.stem}-{uuid.uuid4().hex[:6]}"
    folder.mkdir(parents=True, mode=0o700)
    _prune(runs)
    progress = Progress()
    started = time.monotonic()

    interrupts = _Interrupts()

    def take(event: dict[str, Any]) -> bool:
        interrupts.ansible = interrupts.ansible or event.get("pid")
        if progress.take(event):
            view.update(progress)
        return False  # the events are not kept one file each; the log has them all

    inventories = [
        word for path in run.inventories for word in ("-i", str(path if "," in str(path) else path.resolve()))
    ]
    with interrupts, view:
        thread, runner = ansible_runner.run_command_async(
            executable_cmd="ansible-playbook",
            cmdline_args=[str(run.playbook.resolve()), *inventories, *run.options],
            private_data_dir=str(folder),
            ident="run",
            host_cwd=str(Path.cwd()),
            envvars=_environment(run),
            event_handler=take,
            cancel_callback=interrupts.overdue,
            quiet=True,
            settings={"suppress_env_files": True},
        )
        while thread.is_alive():
            thread.join(0.2)
    progress.close()
    log = folder / "artifacts" / "run" / "stdout"
    interrupted = interrupts.asked_at is not None
    _read_log(log, run, progress, failed=str(runner.status) != "successful" and not interrupted)
    return Outcome(_status(str(runner.status), progress, interrupted), progress, log, time.monotonic() - started)


def _read_log(log: Path, run: PlaybookRun, progress: Progress, failed: bool) -> None:
    """Add to ``progress.general`` what only the log tells: names that match nothing, why Ansible did not begin."""
    text = log.read_text(errors="replace") if log.exists() else ""
    limits = [value for word, value in itertools.pairwise(run.options) if word in {"--limit", "-l"}]
    if limits and "Could not match supplied host pattern" in text:
        progress.general += unknown_hosts(text, limits, known_names(run.inventories))
    if failed and not progress.general and not any(host.failed for host in progress.hosts.values()):
        progress.general += refusals(text)


def known_names(inventories: Sequence[Path]) -> list[str]:
    """Hosts and groups of the inventories, as Ansible reads them; empty when it cannot."""
    words = [word for path in inventories for word in ("-i", str(path))]
    done = subprocess.run(
        ["ansible-inventory", *words, "--list"],
        capture_output=True,
        text=True,
        check=False,
        env=default_environment(),
        timeout=60,
    )
    if done.returncode != 0:
        return []
    groups: dict[str, Any] = json.loads(done.stdout)
    return [*groups.pop("_meta")["hostvars"], *groups]


def _status(runner_status: str, progress: Progress, interrupted: bool) -> str:
    if interrupted:
        return "interrupted"
    if runner_status == "successful":
        return "failed" if progress.general else "successful"
    failing = [host for host in progress.hosts.values() if host.failed]
    if failing and all(host.unreachable for host in failing):
        return "unreachable"
    return "failed"


def default_environment() -> dict[str, str]:
    """The environment that other parts give to ansible commands which they start themselves."""
    return {**os.environ, **_environment(PlaybookRun(Path("site.yml"), ()))}
