"""How the probe gets onto a host: one shell command, one line, one zip.

The shell finds a Python and, where wanted, sudo; Python reads the line that says how long the zip is and where it may
lie, then the zip, and hands over to it. Whatever prevents that is told as one line on standard output that begins with
``SKERRY-``, for the controller to turn into an error.
"""

from __future__ import annotations

import hashlib
import io
import shlex
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

#: Works from Python 2.6 on, to be able to say that a Python is too old.
BOOT = r"""
import sys,os
def out(s):
    sys.stdout.write(s+"\n"); sys.stdout.flush(); sys.exit(9)
if sys.version_info<(3,9): out("SKERRY-OLD %d.%d %s"%(sys.version_info[0],sys.version_info[1],sys.executable))
def line():
    b=b""
    while not b.endswith(b"\n"):
        c=os.read(0,1)
        if not c: sys.exit(9)
        b+=c
    return b.decode()
w=line().split()
while not w or w[0]!="SKERRY-BOOT": w=line().split()
size,digest,session=int(w[1]),w[2],w[3]
data=b""
while len(data)<size:
    c=os.read(0,size-len(data))
    if not c: sys.exit(9)
    data+=c
import hashlib,errno
if hashlib.sha256(data).hexdigest()!=digest: out("SKERRY-DAMAGED")
why="no directory was offered"
for place in w[4:]:
    work=os.path.join(place,"skerry-"+session)
    try:
        os.mkdir(work,0o700)
        with open(os.path.join(work,"probe.zip"),"wb") as f: f.write(data)
        break
    except OSError as e:
        why="%s: %s"%(place,e.strerror)
        if os.path.isdir(work):
            import shutil; shutil.rmtree(work,True)
        if e.errno in (errno.ENOSPC,errno.EDQUOT): out("SKERRY-DISK "+why)
else: out("SKERRY-NODIR "+why)
sys.path.insert(0,os.path.join(work,"probe.zip"))
sys.dont_write_bytecode=True
from skerry.probe.guard import main
main(work,session)
"""

#: Interpreters looked for when the inventory names none.
PYTHONS = (
    "python3",
    "python3.13",
    "python3.12",
    "python3.11",
    "python3.10",
    "python3.9",
    "/usr/libexec/platform-python",
)


@lru_cache(maxsize=1)
def probe_zip() -> bytes:
    """The probe as a zip: the same bytes for the same sources, whatever the time or the order of files."""
    package = Path(__file__).resolve().parents[1] / "probe"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        entries = [("skerry/__init__.py", b"")]
        entries += [
            (f"skerry/probe/{path.relative_to(package)}", path.read_bytes()) for path in sorted(package.rglob("*.py"))
        ]
        for name, data in entries:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def boot_line(session: str, places: list[str]) -> bytes:
    """The line that goes before the zip."""
    data = probe_zip()
    words = ["SKERRY-BOOT", str(len(data)), hashlib.sha256(data).hexdigest(), session, *places]
    return (" ".join(words) + "\n").encode()


def shell_command(interpreter: str | None, become: list[str], boot: str = BOOT) -> str:
    """The command for the host's shell that starts Python.

    Args:
        interpreter: Python's path or name, None to look for one.
        become: words put before Python, such as ``["sudo", "-n"]``; [] to stay who one is.
        boot: the first program that Python gets; it reads the rest from standard input.
    """
    names = [interpreter] if interpreter else list(PYTHONS)
    check, prefix = _become(become)
    # An old Python shall not hide a newer one under another name: it is asked, without sudo, before it is taken.
    test = shlex.quote("import sys; sys.exit(sys.version_info < (3, 9))")
    script = (
        f'{check}old=; for p in {shlex.join(names)}; do command -v "$p" >/dev/null 2>&1 || continue; '
        f'if "$p" -c {test} 2>/dev/null; then exec {prefix}"$p" -u -c {shlex.quote(boot)}; fi; '
        f'old=$p; done; if [ -n "$old" ]; then exec "$old" -c {shlex.quote(boot)}; fi; '
        f"echo SKERRY-NOPYTHON {shlex.join(names)}; exit 9"
    )
    return f"exec sh -c {shlex.quote(script)}"


def program_command(program: Sequence[str], become: list[str]) -> str:
    """The command for the host's shell that starts a program of the host; says SKERRY-NOPROGRAM where there is none."""
    check, prefix = _become(become)
    there = f"[ -x {shlex.quote(program[0])} ] || {{ echo SKERRY-NOPROGRAM; exit 9; }}; "
    return f"exec sh -c {shlex.quote(f'{there}{check}exec {prefix}{shlex.join(program)}')}"


def _become(become: list[str]) -> tuple[str, str]:
    """A check that the command which makes root is there, and what goes before what root is to do."""
    if not become:
        return "", ""
    told = f"{{ echo SKERRY-NOBECOME {become[0]}; exit 9; }}"
    return f"command -v {shlex.quote(become[0])} >/dev/null 2>&1 || {told}; ", shlex.join(become) + " "
