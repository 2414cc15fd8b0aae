"""Keys of a sandbox: one login key, one host key a host, and the known_hosts file that makes logins checked ones."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from skerry.errors import Exit, SkerryError
from skerry.sandbox.spec import Sandbox


def write_if_changed(path: Path, text: str, mode: int = 0o644) -> bool:
    """Write a file beside its place and rename it, when its content or mode differ; True when it did."""
    try:
        same = path.read_text(encoding="utf-8") == text and (path.stat().st_mode & 0o777) == mode
    except OSError:
        same = False
    if same:
        return False
    beside = path.with_name(f".{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(text)
    beside.chmod(mode)
    beside.rename(path)
    return True


def _keypair(path: Path, comment: str) -> bool:
    """Make an Ed25519 key at ``path`` unless both halves are there."""
    public = path.with_name(path.name + ".pub")
    if path.exists() and public.exists():
        return False
    path.unlink(missing_ok=True)
    public.unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise SkerryError(
            "SANDBOX_002", "ssh-keygen is missing", "apt-get install openssh-client", Exit.PREREQUISITE
        ) from error
    except subprocess.CalledProcessError as error:
        raise SkerryError(
            "SANDBOX_007",
            f"no key at {path}: {error.stderr.decode(errors='replace').strip()}",
            "check that the folder can be written",
            Exit.FAILED,
        ) from error
    return True


def host_folder(sandbox: Sandbox, host: str) -> Path:
    """What one host sees, read-only, at /etc/skerry-sandbox: its keys and settings, nobody else's."""
    return sandbox.state / "hosts" / host


def _known_hosts(sandbox: Sandbox) -> str:
    """Lines for every host of the inventory, not only for those of the play: ``--limit`` must not forget the others."""
    lines = []
    for host in sandbox.hosts.values():
        kind, key = (host_folder(sandbox, host.name) / "ssh_host_ed25519_key.pub").read_text("ascii").split()[:2]
        lines.append(f"{host.address} {kind} {key}\n")
    return "".join(lines)


def ssh_config(sandbox: Sandbox) -> str:
    """Settings for plain ssh (and testinfra): ``ssh -F <keys>/ssh_config edge-1``; one kept connection a host."""
    common = (
        f"Host *\n  User skerry\n  IdentityFile {sandbox.state}/id_ed25519\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {sandbox.state}/known_hosts\n  StrictHostKeyChecking yes\n"
        "  PreferredAuthentications publickey\n  ControlMaster auto\n  ControlPersist 60s\n"
        "  ServerAliveInterval 5\n  ServerAliveCountMax 3\n"
        "  ControlPath ~/.ansible/cp/skerry-%C\n"
    )
    return "".join(f"Host {host.name}\n  HostName {host.address}\n" for host in sandbox.hosts.values()) + common


def ensure(sandbox: Sandbox, files: dict[str, str]) -> bool:
    """Make missing keys and write each host's folder (``files``: name -> text for all hosts); True when changed."""
    sandbox.state.mkdir(parents=True, exist_ok=True)
    sandbox.state.chmod(0o700)
    (Path.home() / ".ansible" / "cp").mkdir(
        mode=0o700, parents=True, exist_ok=True
    )  # Ansible's place for control sockets
    changed = _keypair(sandbox.state / "id_ed25519", f"skerry sandbox {sandbox.name}")
    public = (sandbox.state / "id_ed25519.pub").read_text(encoding="ascii")
    for host in sandbox.hosts:
        folder = host_folder(sandbox, host)
        folder.mkdir(parents=True, exist_ok=True)
        changed |= _keypair(folder / "ssh_host_ed25519_key", f"{sandbox.name} {host}")
        for name, text in {**files, "authorized_keys": public}.items():
            changed |= write_if_changed(folder / name, text)
    for folder in (sandbox.state / "hosts").iterdir():
        if folder.name not in sandbox.hosts:  # a host that left the inventory
            shutil.rmtree(folder)
            changed = True
    changed |= write_if_changed(sandbox.state / "ssh_config", ssh_config(sandbox))
    return write_if_changed(sandbox.state / "known_hosts", _known_hosts(sandbox)) or changed
