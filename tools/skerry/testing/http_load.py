"""Clients that ask HTTP services without a pause, and what came of each request."""

from __future__ import annotations

import collections
import http.client
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


@dataclass
class Asked:
    """What came of requests.

    Attributes:
        answers: (status, body) -> how often.
        faults: what went wrong with a request: no connection, a broken one, half an answer.
        seconds: of each request that was answered.
        broken: how often a connection that was to stay open had to be opened again.
    """

    answers: collections.Counter[tuple[int, str]] = field(default_factory=collections.Counter)
    faults: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    broken: int = 0

    @property
    def failed(self) -> int:
        """Requests without an answer of status 200."""
        return len(self.faults) + sum(number for (status, _), number in self.answers.items() if status != 200)


class Load:
    """Asks while its block runs: of each place ``kept`` clients keep their connection, ``fresh`` open one a request.

    No client tries again: a request that fails once has failed. ``pause``: seconds between two requests of a client.
    """

    def __init__(self, places: Sequence[tuple[str, int]], kept: int = 2, fresh: int = 2, pause: float = 0.0) -> None:
        self.asked = Asked()
        self.count = 0  # requests so far; of many threads, so at most a few too low
        self._pause, self._over, self._lock = pause, threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._client, args=(place, number < kept))
                         for place in places for number in range(kept + fresh)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
                 ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _client(self, place: tuple[str, int], kept: bool) -> None:
        link = http.client.HTTPConnection(*place, timeout=30)
        mine, first = Asked(), True
        while not self._over.wait(self._pause):
            if not kept:
                link.close()
            elif link.sock is None and not first:
                mine.broken += 1
            first, began = False, time.monotonic()
            self.count += 1
            try:
                link.request("GET", "/")
                answer = link.getresponse()
                mine.answers[answer.status, answer.read().decode()] += 1
                mine.seconds.append(time.monotonic() - began)
            except (OSError, http.client.HTTPException) as error:
                mine.faults.append(f"{place[0]}: {error!r}")
                link.close()
        link.close()
        with self._lock:
            self.asked.answers += mine.answers
            self.asked.faults += mine.faults
            self.asked.seconds += mine.seconds
            self.asked.broken += mine.broken
