"""Keeps a run on disk while it is taken: what was measured survives whatever ends the run."""

from __future__ import annotations

import os
import secrets
import threading
from datetime import UTC, datetime
from pathlib import Path

from skerry.bench import parquet, results
from skerry.bench.results import Run, SampleRow
from skerry.errors import Exit, SkerryError


def new_id() -> str:
    """A run's name: when it began (UTC), and four letters against two at once."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class Recorder:
    """Writes samples as they come into ``<results>/.<id>.partial``, which gets its name when the run is over.

    Methods may be called by several threads.
    """

    def __init__(self, run: Run, parent: Path | None = None) -> None:
        self.run = run
        self.rows: list[SampleRow] = []
        self._lock = threading.Lock()
        self._final = (parent or results.directory()) / run.id
        self._partial = self._final.with_name(f".{run.id}.partial")
        try:
            self._partial.mkdir(parents=True)
            self._lines = (self._partial / "samples.jsonl").open("w", encoding="utf-8")
        except OSError as error:
            raise SkerryError("BENCH_006", f"{self._partial} cannot be written: {error.strerror}",
                              "free some space, or mend the folder's rights", Exit.PREREQUISITE) from error
        results.write_run(self._partial, run)

    def add(self, row: SampleRow) -> SampleRow:
        """Keep one sample; its index is set here."""
        with self._lock:
            row = row.model_copy(update={"index": len(self.rows)})
            self.rows.append(row)
            self._lines.write(row.model_dump_json() + "\n")
            self._lines.flush()
            if row.failure is not None:
                self.run.failures += 1
        return row

    def save(self) -> None:
        """Write what is known of the run so far."""
        with self._lock:
            results.write_run(self._partial, self.run)

    def finish(self, interrupted: bool) -> Path:
        """Close the run and give its directory its name; returns it."""
        with self._lock:
            self._lines.flush()
            os.fsync(self._lines.fileno())
            self._lines.close()
            self.run.ended = now()
            self.run.interrupted = interrupted
            self.run.complete = not interrupted
            parquet.write(self._partial, self.rows)
            results.write_run(self._partial, self.run)
            return self._partial.rename(self._final)
