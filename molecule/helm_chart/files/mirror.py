#!/usr/bin/env python3
"""Make a mirror with the chart `hello` in it: mirror.py FOLDER VERSION... prints whether something was written.

The archives are the same for the same sources, so that a second run changes nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path

CHART = Path(__file__).parent / "hello"


def archive(version: str) -> bytes:
    """The chart as `helm package` would make it, in that version."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path in sorted(path for path in CHART.rglob("*") if path.is_file()):
            content = path.read_bytes()
            if path.name == "Chart.yaml":
                content = content.replace(b"version: 0.0.0", b"version: " + version.encode())
            entry = tarfile.TarInfo(f"hello/{path.relative_to(CHART)}")
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)


def main() -> None:
    """Entry point."""
    folder, written, artifacts = Path(sys.argv[1]), False, []
    for version in sys.argv[2:]:
        content, name = archive(version), f"hello-{version}.tgz"
        path = folder / "hello" / version / "noarch" / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            written = True
        digest = hashlib.sha256(content).hexdigest()
        artifacts.append(
            {"component": "hello", "version": version, "arch": "noarch", "file": name, "sha256": digest,
             "size": len(content), "source": ""}
        )
    (folder / "mirror.lock.json").write_text(json.dumps({"format": 1, "artifacts": artifacts}))
    print("changed" if written else "ok")


if __name__ == "__main__":
    main()
