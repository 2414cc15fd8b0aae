"""Starts a probe on a host and turns every way in which that fails into its own error."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from typing import IO

from skerry.errors import Exit, SkerryError
from skerry.targets.api import Target
from skerry.targets.bootstrap import BOOT, boot_line, probe_zip, program_command, shell_command
from skerry.targets.ssh import Login, login

READY = b"SKERRY-READY\n"
#: Seconds from the start of ssh to the probe's first word; emulated hosts are slow.
START_TIMEOUT = 60.0
_WORDS_KEPT = 200


def command_line(target: Target, how: Login, starts: str | tuple[str, ...] = BOOT) -> list[str]:
    """The whole command that starts Python on a host with a text, or words: a program that is there already."""
    if not isinstance(starts, str):
        command = program_command(starts, list(how.become))
        return ["/bin/sh", "-c", command] if target.local else [*how.command, command]
    interpreter = str(target.variables.get("ansible_python_interpreter") or "")
    if interpreter in ("auto", "auto_legacy", "auto_silent", "auto_legacy_silent"):
        interpreter = ""
    if target.local and not interpreter:
        interpreter = sys.executable
    command = shell_command(interpreter or None, list(how.become), starts)
    return ["/bin/sh", "-c", command] if target.local else [*how.command, command]


def places(target: Target) -> list[str]:
    """Directories where the session's files may lie, the first that can be written wins; never a memory file system
    by choice: engines are large and hosts small."""
    if chosen := target.variables.get("skerry_run_dir"):
        return [str(chosen)]
    if target.local and (own := os.environ.get("TMPDIR")):
        return [own, "/var/tmp", "/tmp"]
    return ["/var/tmp", "/tmp"]


def launch(target: Target, how: Login, starts: str | tuple[str, ...] = BOOT) -> subprocess.Popen[bytes]:
    """Start Python or a program (see `command_line`) on a host, with three pipes, in a process group of its own.

    Raises:
        SkerryError: TARGET_019 where there is no ssh.
    """
    try:
        return subprocess.Popen(
            command_line(target, how, starts),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise SkerryError(
            "TARGET_019", f"there is no command {error.filename}", "apt-get install openssh-client", Exit.PREREQUISITE
        ) from error


class Link:
    """Python, or another program, on a host, at the ends of three pipes; its standard error is read all the while.

    Attributes:
        first: what has to be written before anything else, the password that sudo wants.
        errors: the last lines of its standard error.
    """

    def __init__(self, target: Target, starts: str | tuple[str, ...] = BOOT) -> None:
        """Start it.

        Raises:
            SkerryError: TARGET_010 to TARGET_013 (how to log in), TARGET_019 (no ssh).
        """
        self.target, self._how = target, login(target)
        self.first = b"" if self._how.password is None else self._how.password.encode() + b"\n"
        self.process = launch(target, self._how, starts)
        if self.process.stdin is None or self.process.stdout is None or self.process.stderr is None:
            raise AssertionError("pipes were asked for")
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.errors: deque[str] = deque(maxlen=_WORDS_KEPT)
        self._listener = threading.Thread(target=self._listen, args=(self.process.stderr,), daemon=True)
        self._listener.start()

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self.errors.append(line.decode("utf-8", "replace").rstrip())

    def kill(self) -> None:
        """End it with all that it started here, such as a ProxyCommand."""
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self, seconds: float = 2.0) -> None:
        """Let it end, for some seconds, then end it."""
        with contextlib.suppress(BrokenPipeError):  # what it did not read before it ended
            self.stdin.close()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            self.process.wait()
        self.stdout.close()

    def wait(self) -> None:
        """Give it a moment to end, and its last words to arrive."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        self._listener.join(1)

    def lost(self, said: bytes) -> SkerryError:
        """Why it ended, from what it ``said`` on standard output and all that came on standard error."""
        self.wait()
        text, errors = said.decode("utf-8", "replace"), "\n".join(self.errors)
        return diagnose(self.target, self._how, text, errors, self.process.poll() or 0)


class Started:
    """A probe that has said it is ready. ``rest`` is what it said after that."""

    def __init__(self, link: Link, rest: bytes) -> None:
        self.process, self.errors = link.process, link.errors
        self.rest = rest


def start(target: Target) -> Started:
    """Start a probe.

    Raises:
        SkerryError: TARGET_002 to TARGET_013 and TARGET_019; every one names the host.
    """
    link = Link(target)
    try:
        link.stdin.write(link.first + boot_line(secrets.token_hex(8), places(target)) + probe_zip())
        link.stdin.flush()
    except BrokenPipeError:  # it has ended already: what it said is read below
        link.errors.append("it ended before the probe was sent")
    said = _await_ready(link)
    if READY in said:
        return Started(link, said.split(READY, 1)[1])
    if link.process.poll() is None and not _ended_soon(link.process):
        link.kill()
        link.errors.append(f"no answer within {START_TIMEOUT:.0f} s")
    link.close()
    raise link.lost(said)


def _ended_soon(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        return False
    return True


def _await_ready(link: Link) -> bytes:
    """What the other side says until it is ready, ends, or takes too long."""
    fd, said, deadline = link.stdout.fileno(), b"", time.monotonic() + START_TIMEOUT
    while READY not in said and (left := deadline - time.monotonic()) > 0:
        readable, _, _ = select.select([fd], [], [], left)
        if not readable:
            break
        data = os.read(fd, 1 << 16)
        if not data:
            break
        said += data
    return said


#: (pattern in ssh's words, code, cause, remedy); the first that fits is taken.
_SSH: tuple[tuple[str, str, str, str], ...] = (
    (
        r"Could not resolve hostname|Name or service not known",
        "TARGET_002",
        "its address cannot be resolved",
        "put its address into ansible_host",
    ),
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed",
        "TARGET_005",
        "its host key has changed",
        "if the host was made anew: ssh-keygen -R ADDRESS, check the new key, accept it; else somebody is in between",
    ),
    (
        r"Host key verification failed|No .* host key is known|no matching host key",
        "TARGET_005",
        "its host key is not known",
        "check the key and add it: ssh-keyscan ADDRESS >> ~/.ssh/known_hosts",
    ),
    (
        r"Permission denied \(|Too many authentication failures|no mutual signature|sign_and_send_pubkey",
        "TARGET_004",
        "the login was refused",
        "check ansible_user and ansible_ssh_private_key_file; ssh-copy-id installs a key",
    ),
    (
        r"UNPROTECTED PRIVATE KEY FILE|bad permissions|Load key .*:",
        "TARGET_004",
        "the login key cannot be used",
        "check the file that ansible_ssh_private_key_file names; its mode must be 0600",
    ),
    (
        r"Connection refused|timed out|No route to host|Network is unreachable|Connection closed by|Connection reset|"
        r"kex_exchange_identification|not responding|Broken pipe",
        "TARGET_003",
        "it cannot be reached",
        "check that it is up and that its ssh port is open (skerry sandbox status, ping, ansible_port)",
    ),
)


def _started_badly(said: str) -> tuple[str, str, str] | None:
    """(code, cause, remedy) from the bootstrap's own line."""
    found = re.search(r"^SKERRY-(\w+) ?(.*)$", said, re.MULTILINE)
    if not found:
        return None
    word, rest = found.groups()
    return {
        "NOPYTHON": ("TARGET_006", f"it has no Python ({rest})", "run playbooks/hosts.yml, which installs one"),
        "OLD": (
            "TARGET_006",
            f"its Python is too old: {rest}",
            "install Python 3.9 or newer and name it in ansible_python_interpreter",
        ),
        "NOBECOME": (
            "TARGET_007",
            f"it has no command {rest}",
            "install sudo and allow it for the login user, or log in as root",
        ),
        "DISK": (
            "TARGET_008",
            f"its disk is full: {rest}",
            "free space there, or name another directory with the host variable skerry_run_dir",
        ),
        "NODIR": (
            "TARGET_008",
            f"no directory for the probe can be made: {rest}",
            "name a writable one with the host variable skerry_run_dir",
        ),
        "DAMAGED": ("TARGET_009", "the probe came damaged", "run the same command again"),
    }.get(word)


def diagnose(target: Target, how: Login, said: str, errors: str, code: int) -> SkerryError:
    """The error that the words on both streams tell."""
    host, exit_code = f"host {target.name}", Exit.UNREACHABLE
    if found := _started_badly(said):
        return SkerryError(found[0], f"{host}: {found[1]}", found[2], exit_code)
    if how.become and re.search(
        r"a password is required|not in the sudoers|may not run sudo|not allowed to|"
        r"incorrect password|no password was provided|Sorry, try again|Authorization required",
        errors,
    ):
        return SkerryError(
            "TARGET_007",
            f"{host}: no {how.become[0]} rights for the login user: {errors.splitlines()[-1]}",
            "allow it with NOPASSWD in /etc/sudoers.d, or give ansible_become_password "
            "(from Ansible Vault or the environment)",
            exit_code,
        )
    last = next((line for line in reversed(errors.splitlines()) if line.strip()), "") or f"exit code {code}"
    for pattern, name, cause, remedy in _SSH:
        if re.search(pattern, errors):
            return SkerryError(
                name, f"{host} ({how.address}): {cause}: {last}", remedy.replace("ADDRESS", how.address), exit_code
            )
    if "No space left on device" in errors or "ENOSPC" in errors:
        return SkerryError("TARGET_008", f"{host}: its disk is full: {last}", "free space there", exit_code)
    if target.local or code != 255:
        return SkerryError("TARGET_009", f"{host}: the probe did not start: {last}", "report this as a bug", exit_code)
    return SkerryError(
        "TARGET_003",
        f"{host} ({how.address}): it cannot be reached: {last}",
        "check that it is up and that its ssh port is open",
        exit_code,
    )
