"""Deterministic inputs of the workloads: the same seed gives the same bytes on every machine and Python.

Everything is drawn from SHAKE-256 (FIPS 202), never from a library's own random generator, whose stream may change.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from skerry import paths
from skerry.errors import Exit, SkerryError
from skerry.workloads.manifest import InputFile

#: 2026-01-01T00:00:00Z in milliseconds: where the readings begin.
EPOCH_MS = 1_767_225_600_000
SENSORS = 8


def shake_bytes(seed: str, count: int) -> bytes:
    """``count`` bytes of SHAKE-256 over the seed."""
    return hashlib.shake_256(seed.encode()).digest(count)


def _words(seed: str, count: int) -> Iterator[tuple[int, int, int, int]]:
    """``count`` times four uniform 16-bit numbers."""
    stream = hashlib.shake_256(seed.encode()).digest(count * 8)
    for at in range(0, len(stream), 8):
        yield tuple(int.from_bytes(stream[i : i + 2], "big") for i in range(at, at + 8, 2))  # type: ignore[misc]


def sensor_readings(seed: str, count: int) -> bytes:
    """``count`` lines of readings from 8 sensors, about 100 a second of their time, in a made-up plant.

    Values are random walks in hundredths (integers throughout, so that no platform rounds differently). About 1 line
    in 50 is up to 6 s old, which is late or just not; about 1 in 400 is no reading at all.
    """
    walks = [2000 + 150 * index for index in range(SENSORS)]
    now = EPOCH_MS
    lines = []
    for a, b, c, d in _words(seed, count):
        now += a % 21  # 10 ms on average
        sensor = b % SENSORS
        walks[sensor] += c % 21 - 10
        stamp = now - (c * d) % 6000 if d % 50 == 0 else now
        if d % 400 == 1:
            lines.append(f'{{"ts": {stamp}, "sensor": "s-{sensor:02d}", "value": ')
            continue
        value = walks[sensor]
        text = f"{'-' if value < 0 else ''}{abs(value) // 100}.{abs(value) % 100:02d}"
        lines.append(f'{{"ts": {stamp}, "sensor": "s-{sensor:02d}", "value": {text}}}')
    return ("\n".join(lines) + "\n").encode()


GENERATORS: dict[str, Callable[[str, int], bytes]] = {
    "shake-bytes": shake_bytes,
    "sensor-readings": sensor_readings,
}


def materialise(wanted: InputFile) -> Path:
    """The input's file in the cache, made when it is not there; its digest is checked either way.

    Raises:
        SkerryError: WORKLOAD_005 when the generator no longer gives the bytes that the manifest names.
    """
    place = paths.cache() / "workloads" / "inputs" / f"{wanted.sha256}-{wanted.name}"
    if place.is_file() and hashlib.sha256(place.read_bytes()).hexdigest() == wanted.sha256:
        return place
    data = GENERATORS[wanted.generator](wanted.seed, wanted.count)
    found = hashlib.sha256(data).hexdigest()
    if found != wanted.sha256:
        raise SkerryError(
            "WORKLOAD_005",
            f"{wanted.name} ({wanted.generator}, {wanted.count}) came out as {found}, not as {wanted.sha256}",
            "the generator or the manifest was changed: put the new digest and expected output into workload.yaml",
            Exit.FAILED,
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=place.parent, delete=False) as beside:
        beside.write(data)
    Path(beside.name).replace(place)
    return place
