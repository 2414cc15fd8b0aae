"""What `skerry sandbox up` and `down` do: write the inventory, run the playbook, tidy up."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from skerry import paths
from skerry.errors import Exit, SkerryError
from skerry.provision.progress import Progress
from skerry.provision.runner import Outcome, PlaybookRun, run_playbook
from skerry.provision.view import NoView
from skerry.sandbox import engine, k3s_source, plans
from skerry.sandbox.docker_api import Docker
from skerry.sandbox.images import LABEL, REPOSITORY


class TaskView(NoView):
    """One line that names the task in hand, on a terminal; else a line for each task."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._status = console.status("starting Ansible") if console.is_terminal else None
        self._task = ""

    def __enter__(self) -> TaskView:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def update(self, progress: Progress) -> None:
        if progress.task == self._task:
            return
        self._task = progress.task
        if self._status:
            self._status.update(progress.task)
        else:
            self._say(progress.task)


def _raise(outcome: Outcome) -> None:
    """Turn a failed playbook into the error that its first failing host names."""
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    for name, host in outcome.progress.hosts.items():
        for found in host.failures:
            coded = found.code.startswith("SANDBOX")
            raise SkerryError(
                found.code,
                found.cause if coded else f"host {name}: {found.cause}",
                found.remedy if coded else f"{found.remedy} (log: {outcome.log})",
                outcome.exit_code,
            )
    said = "; ".join(found.cause for found in outcome.progress.general) or "Ansible gave no reason"
    raise SkerryError("SANDBOX_017", f"the playbook did not run: {said[:400]}", f"see {outcome.log}", Exit.FAILED)


def _play(name: str, inventory: Path, console: Console | None) -> Outcome:
    view = TaskView(console) if console else NoView(Console(stderr=True))
    outcome = run_playbook(PlaybookRun(paths.root() / "playbooks" / f"{name}.yml", [inventory]), view)
    if outcome.status != "successful":
        _raise(outcome)
    return outcome


def up(plan: plans.Plan, console: Console | None) -> Outcome:
    """Make the hosts of ``plan``; a second call changes nothing. ``console`` shows progress, None keeps silent.

    Raises:
        SkerryError: SANDBOX_*.
    """
    engine.ensure()
    for arch in sorted({plans.architecture(host) for host in plan.hosts()}):
        k3s_source.provide(arch)
    return _play("sandbox_up", plans.write(plan), console)


def down(name: str, console: Console | None) -> bool:
    """Remove the sandbox ``name`` with everything that belongs to it; True when there was something."""
    inventory = plans.folder(name)
    if not (inventory / "hosts.yml").exists():
        return False
    outcome = _play("sandbox_down", inventory, console)
    plans.forget(name)
    for place in (paths.state() / "inventories", paths.state() / "sandbox"):
        if place.exists() and not any(place.iterdir()):
            place.rmdir()
    return any(host.changed for host in outcome.progress.hosts.values())


def remove_images() -> list[str]:
    """Remove host images from Docker and the cache; names of those that went (images in use stay)."""
    docker, gone = Docker(), []
    if engine.answers(docker):
        for image in docker.by_label("images", LABEL):
            gone += [tag for tag in image["RepoTags"] or [] if tag.startswith(REPOSITORY) and docker.remove_image(tag)]
    for tar in (paths.cache() / "images").glob("debian*.tar"):
        tar.unlink()
    return gone
