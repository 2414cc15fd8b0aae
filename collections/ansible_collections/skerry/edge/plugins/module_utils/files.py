"""Files of the host, as modules look at them.

Runs on hosts with Python 3.8, so it keeps to the standard library and to that version's syntax.
"""

from __future__ import annotations

import os
import tempfile


def read_text(path):
    """A file's text, or None where there is none. What is no UTF-8 is replaced: it differs then, and is no failure."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ProcessLookupError):
        return None


def replace_file(path, content, mode, owner=None):
    """Replace a file in one step, safe from a loss of power; ``content`` is text or bytes, ``owner`` (uid, gid).

    It is written beside, where nobody whom ``mode`` keeps out can read it, and renamed. Folders are made.
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    # A name without suffix: containerd, systemd and others may read all *.toml or *.conf of a folder at any moment.
    handle, beside = tempfile.mkstemp(prefix=".skerry.", dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content if isinstance(content, bytes) else content.encode())
            if owner is not None:
                os.fchown(stream.fileno(), *owner)
            os.fchmod(stream.fileno(), mode)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
    except OSError:
        os.unlink(beside)
        raise
