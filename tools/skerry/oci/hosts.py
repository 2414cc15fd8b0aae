"""Images straight to hosts, without a registry: into Docker, and into k3s's containerd."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import threading
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from skerry.errors import Exit, SkerryError
from skerry.mirror.reference import Reference
from skerry.oci.kinds import Content
from skerry.oci.layout import Layout, archive
from skerry.oci.transfer import engine_image
from skerry.targets.api import Target
from skerry.targets.connect import Link

AT_ONCE = 16
_CHUNK = 1 << 16
_OLD = ('import sys\nif sys.version_info<(3,9):\n    sys.stdout.write("SKERRY-OLD %d.%d %s\\n"%(sys.version_info[0],'
        "sys.version_info[1],sys.executable)); sys.stdout.flush(); sys.exit(9)\n")


@dataclass(frozen=True)
class Loaded:
    """What became of an image in one engine of one host; ``sent``: bytes over the connection, for all its engines."""

    host: str
    engine: str
    state: Literal["loaded", "present", "failed"]
    sent: int = 0
    error: SkerryError | None = None


@dataclass
class Outcome:
    """Of all hosts; ``faults`` are hosts that could not be asked."""

    loaded: list[Loaded] = field(default_factory=list)
    faults: dict[str, SkerryError] = field(default_factory=dict)

    @property
    def exit_code(self) -> Exit:
        """Of the command."""
        if any(one.state == "failed" for one in self.loaded):
            return Exit.FAILED
        codes = {fault.exit_code for fault in self.faults.values()}
        return Exit.OK if not codes else Exit.UNREACHABLE if codes == {Exit.UNREACHABLE} else Exit.FAILED


@dataclass(frozen=True)
class _Packed:
    path: Path
    size: int
    sha256: str
    manifest: Content


class _Archives:
    """The image's archive for each platform that a host has, packed once."""

    def __init__(self, layout: Layout, reference: Reference, folder: Path) -> None:
        self._layout, self._reference, self._folder = layout, reference, folder
        self._lock = threading.Lock()
        self._made: dict[str, _Packed] = {}

    def of(self, platform: str) -> _Packed:
        with self._lock:
            if platform not in self._made:
                self._made[platform] = self._pack(platform)
            return self._made[platform]

    def _pack(self, platform: str) -> _Packed:
        manifest = engine_image(self._layout, self._reference, platform)
        plain = self._folder / f"{len(self._made)}.tar"
        packed, digest, press = plain.with_suffix(".z"), hashlib.sha256(), zlib.compressobj(6)
        with plain.open("w+b") as tar, packed.open("wb") as out:
            archive(self._layout, self._reference, manifest, tar)
            tar.seek(0)
            while data := tar.read(1 << 20):
                piece = press.compress(data)
                digest.update(piece)
                out.write(piece)
            piece = press.flush()
            digest.update(piece)
            out.write(piece)
        plain.unlink()
        return _Packed(packed, packed.stat().st_size, digest.hexdigest(), manifest)


def _boot() -> str:
    source = Path(__file__).with_name("host_side.py").read_text()
    return f"{_OLD}exec(compile({source!r},'skerry-image','exec'))\n"


class _Host:
    """The connection to one host; it ends after ``seconds`` whatever happens."""

    def __init__(self, target: Target, seconds: float) -> None:
        self.link, self._seconds = Link(target, _boot()), seconds
        self._said = b""
        self._late = False
        self._alarm = threading.Timer(seconds, self._stop)
        self._alarm.daemon = True
        self._alarm.start()

    def _stop(self) -> None:
        self._late = True
        self.link.kill()

    def send(self, data: bytes) -> None:
        """Write, whole."""
        try:
            self.link.stdin.write(data)
            self.link.stdin.flush()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self.fault() from error

    def message(self) -> dict[str, Any]:
        """The host's next line; banners of shells before it are passed over."""
        while True:
            line = self.link.stdout.readline()
            if not line:
                raise self.fault()
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict):
                    return said
            self._said += line

    def fault(self) -> SkerryError:
        """Why the connection ended."""
        if self._late:
            return SkerryError("IMAGE_035", f"host {self.link.target.name}: no answer within {self._seconds:.0f} s",
                               "check the host, its link and its load; --host-timeout gives it longer",
                               Exit.UNREACHABLE)
        return self.link.lost(self._said)

    def close(self) -> None:
        """End it."""
        self._alarm.cancel()
        self.link.close(5)


def _failed(host: str, engine: str, words: str) -> Loaded:
    return Loaded(host, engine, "failed", error=SkerryError(
        "IMAGE_034", f"host {host}: {engine} does not take the image: {words}",
        f"look into its log there (journalctl -u {'docker' if engine == 'docker' else 'k3s -u k3s-agent'}); df -h",
        Exit.FAILED,
    ))


def _one(target: Target, reference: Reference, archives: _Archives, into: Sequence[str],
         seconds: float) -> Iterator[Loaded]:
    host = _Host(target, seconds)
    try:
        host.send(host.link.first + json.dumps({"reference": reference.text, "into": list(into)}).encode() + b"\n")
        hello = host.message()
        if not hello["engines"]:
            raise SkerryError("IMAGE_033", f"host {target.name} has neither Docker nor k3s",
                              "install one (roles docker, k3s), or leave the host out with --on", Exit.FAILED)
        packed = archives.of(hello["platform"])
        there = (packed.manifest.digest, packed.manifest.json["config"]["digest"])
        lacking = []
        for engine, state in hello["engines"].items():
            if "error" in state:
                yield _failed(target.name, engine, state["error"])
            elif state["has"] in there:
                yield Loaded(target.name, engine, "present")
            else:
                lacking.append(engine)
        if not lacking:
            return
        order = {"load": lacking, "size": packed.size, "sha256": packed.sha256}
        host.send(json.dumps(order).encode() + b"\n")
        with packed.path.open("rb") as stream:
            while data := stream.read(_CHUNK):
                host.send(data)
        for _ in lacking:
            answer = host.message()
            if answer["error"]:
                yield _failed(target.name, answer["engine"], answer["error"])
            else:
                yield Loaded(target.name, answer["engine"], "loaded", packed.size)
    finally:
        host.close()


def bring(layout: Layout, reference: Reference, targets: Sequence[Target], into: Sequence[str] = (),
          seconds: float = 300) -> Outcome:
    """Load an image of the layout into the engines of hosts, all at once; what a host has already is not sent.

    Args:
        into: docker, containerd; () is every one that a host has.
        seconds: that one host may take in all.

    Raises:
        SkerryError: IMAGE_013, IMAGE_015 (the layout), IMAGE_032 (an artifact). What fails on a host is in the outcome:
            IMAGE_030 (not made for its platform), IMAGE_033 to IMAGE_035, TARGET_...
    """
    if not layout.content(reference).is_index:
        engine_image(layout, reference, "")
    outcome = Outcome()
    lock = threading.Lock()
    with tempfile.TemporaryDirectory(prefix="skerry-image-") as folder:
        archives = _Archives(layout, reference, Path(folder))

        def work(target: Target) -> None:
            try:
                for one in _one(target, reference, archives, into, seconds):
                    with lock:
                        outcome.loaded.append(one)
            except SkerryError as error:
                with lock:
                    outcome.faults[target.name] = error

        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            list(pool.map(work, targets))
    order = {target.name: number for number, target in enumerate(targets)}
    outcome.loaded.sort(key=lambda one: (order[one.host], one.engine))
    return outcome
