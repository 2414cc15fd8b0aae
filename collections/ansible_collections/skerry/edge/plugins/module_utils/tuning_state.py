"""What the parts of host_tuning share: the host, the journal of what was before, files written with a difference.

Pure Python, 3.8 or later. The journal lies at ``JOURNAL`` (JSON): ``files`` {path: text before, or null}, ``sysctl``
{key: {before, set}}, ``modules`` (loaded by us), ``pending`` (services to be told once files are written), and more by
part.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible_collections.skerry.edge.plugins.module_utils.host import Host, mount_of

JOURNAL = "/etc/skerry/host_tuning.json"


class TuningError(Exception):
    """A part cannot do its work; the text is ``CODE cause | remedy: ...``."""


class Context:
    """One run on one host. Parts call ``write``, ``change``, ``later``; nothing is touched in check mode."""

    def __init__(self, host: Host, check: bool) -> None:
        self.host = host
        self.check = check
        self.journal = self._load()
        self.saved = self.text()
        self.changes: list[str] = []
        self.notes: list[str] = []
        self.absent: list[str] = []
        self.read_only: list[str] = []
        self.diffs: list[dict[str, str]] = []

    def _load(self) -> dict[str, Any]:
        text = self.host.read(JOURNAL, None)
        if text is None:
            return {"format": 1}
        try:
            content = json.loads(text)
        except ValueError as error:
            raise TuningError(
                f"HOST_TUNING_001 {JOURNAL} is damaged ({error}) | remedy: restore it from a backup, or "
                "remove it; then what was"
                " before the first run can no longer be put back"
            ) from error
        return dict(content)

    def text(self) -> str:
        """The journal as it is written."""
        return json.dumps(self.journal, indent=2, sort_keys=True) + "\n"

    def change(self, what: str) -> None:
        """Count a change, to be shown."""
        self.changes.append(what)

    def save(self) -> None:
        """Write the journal now, so that a killed run can still be undone."""
        if not self.check and self.text() != self.saved:
            place(self.host.path(JOURNAL), self.text(), 0o600)
            self.saved = self.text()

    def drop_journal(self) -> None:
        """Remove the journal once everything was put back; what it still knows (packages) keeps it."""
        if set(self.journal) <= {"format", "modules"} and self.host.exists(JOURNAL):
            self.host.path(JOURNAL).unlink()

    def write(self, name: str, text: str | None, mode: int = 0o644, then: str = "") -> bool:
        """Make ``name`` hold ``text``, or remove it (None); True when that is a change. ``then`` names what to do
        after it."""
        have = self.host.read(name, None)
        if have == text:
            return False
        files = self.journal.setdefault("files", {})
        files.setdefault(name, have)
        if text is None and files[name] is None:
            del files[name]
        self.diffs.append({"before_header": name, "after_header": name, "before": have or "", "after": text or ""})
        self.change(f"{name} {'written' if text is not None else 'removed'}")
        if then:
            self.later(then)
        if not self.check:
            self.save()
            if text is None:
                self.host.path(name).unlink()
            else:
                place(self.host.path(name), text, mode)
        return True

    def later(self, what: str) -> None:
        """Remember that a service has to be told; kept in the journal until it is done, so a killed run catches up."""
        pending = self.journal.setdefault("pending", [])
        if what not in pending:
            pending.append(what)

    def set_kernel(self, name: str, value: str) -> None:
        """Write a value below /proc/sys or /sys; a refusal is noted."""
        try:
            self.host.path(name).write_text(value + "\n", encoding="utf-8")
        except OSError as error:
            self.notes.append(f"{name} cannot be put back to {value}: {error.strerror}")

    def forget(self, *names: str) -> None:
        """Put files back to what they were before us."""
        files = self.journal.get("files", {})
        for name in names:
            if name in files:
                before = files[name]
                self.write(name, before)
                files.pop(name, None)


def place(path: Path, text: str, mode: int) -> None:
    """Write beside and rename; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.skerry")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        if mount_of(Host(), str(path))["type"] not in (
            "vfat",
            "msdos",
            "exfat",
        ):  # a board's boot partition has no modes
            os.fchmod(handle, mode)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(beside, path)
