"""Filling a mirror with what an inventory needs: charts and lists first, since they tell which images there are."""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from skerry.errors import Exit, SkerryError
from skerry.mirror import charts
from skerry.mirror.charts import Chart
from skerry.mirror.fetching import PARTIAL, File, Outcome, Picture, Thing, Watch
from skerry.mirror.lock import Lock, guarded, read
from skerry.mirror.plan import Plan
from skerry.mirror.reference import Reference, parse
from skerry.mirror.store import put

#: How many sizes are asked for at once.
ASKING = 8


@dataclass(frozen=True)
class Announced:
    """One thing of the list that is shown before anything large is fetched; ``size`` in bytes, None when unknown."""

    path: str
    size: int | None
    present: bool


@dataclass
class Options:
    """How a mirror is built.

    ``watch`` gives the progress of one download, ``announce`` gets the list with sizes before they begin, ``redirects``
    are registries to ask elsewhere ({registry: URL}), ``helm`` is the Helm command or "".
    """

    watch: Watch
    announce: Callable[[list[Announced]], None] = lambda things: None
    redirects: Mapping[str, str] = field(default_factory=dict)
    helm: str = ""


class Builder:
    """One run of `skerry mirror build`; the mirror's guard is held meanwhile."""

    def __init__(self, mirror: Path, plan: Plan, options: Options) -> None:
        self._mirror = mirror
        self._plan = plan
        self._options = options
        self.outcomes: list[Outcome] = []

    def run(self) -> list[Outcome]:
        """Fetch everything; what fails does not stop the rest."""
        for thing in [*self._listed(), *self._archives()]:
            self._bring(thing)
        images = dict(self._plan.images)
        for (reference, arch), host in [*self._of_lists(), *self._of_charts()]:
            images.setdefault((reference.text, arch), host)
        things: list[Thing] = [
            File(need.artifact, need.host) for _, need in sorted(self._plan.artifacts.items())
        ]
        things += [
            Picture(parse(text), arch, host, self._options.redirects) for (text, arch), host in sorted(images.items())
        ]
        self._show(things)
        for thing in things:
            self._bring(thing)
        return sorted(self.outcomes, key=lambda outcome: outcome.path)

    def _bring(self, thing: Thing) -> None:
        try:
            self.outcomes.append(thing.bring(self._mirror, self._options.watch))
        except SkerryError as error:
            if error.code in ("MIRROR_001", "MIRROR_002"):
                raise
            state = "missing" if thing.optional and error.code == "MIRROR_008" else "failed"
            cause = f"{error.code} {error.cause} (needed by {thing.host})"
            self.outcomes.append(Outcome(thing.path, state, 0, "", cause, error.remedy))

    # -- what tells of images ------------------------------------------------------------------------------------

    def _listed(self) -> Iterator[Thing]:
        for listed, hosts in self._plan.lists.values():
            yield File(listed, next(iter(hosts.values())))

    def _archives(self) -> Iterator[Thing]:
        seen = set()
        for chart, hosts in self._plan.charts:
            thing = File.of_chart(chart, next(iter(hosts.values())), self._options.redirects)
            if thing.path not in seen:
                seen.add(thing.path)
                yield thing

    def _of_lists(self) -> Iterator[tuple[tuple[Reference, str], str]]:
        for listed, hosts in self._plan.lists.values():
            path = self._mirror / listed.path
            if not path.is_file():
                continue
            for reference in charts.read_list(path.read_text(encoding="utf-8")):
                if not any(fnmatch.fnmatch(reference.text, pattern) for pattern in listed.without):
                    yield from (((reference, arch), host) for arch, host in hosts.items())

    def _of_charts(self) -> Iterator[tuple[tuple[Reference, str], str]]:
        """Images that Helm shows; the list of them is put beside each chart, for the check at the site."""
        found: dict[str, tuple[Chart, set[str]]] = {}
        for chart, hosts in self._plan.charts:
            texts = self._rendered(chart)
            if texts is None:
                continue
            found.setdefault(chart.file, (chart, set()))[1].update(texts)
            yield from (((parse(text), arch), host) for text in texts for arch, host in hosts.items())
        for chart, texts in found.values():
            self._note(chart, texts)

    def _rendered(self, chart: Chart) -> set[str] | None:
        archive = self._mirror / chart.chart / chart.version / "noarch" / chart.file
        if not self._options.helm or not archive.is_file():
            return None
        try:
            rendered = charts.render(self._options.helm, archive, chart, self._plan.kubernetes)
            return {parse(text).text for text in charts.images_of(rendered)}
        except SkerryError as error:
            path = f"{chart.chart}/{chart.version}/noarch/{chart.images_file}"
            self.outcomes.append(Outcome(path, "failed", 0, "", f"{error.code} {error.cause}", error.remedy))
            return None

    def _note(self, chart: Chart, texts: set[str]) -> None:
        text = f"# Images of {chart.chart} {chart.version}, as Helm rendered it with the values of an inventory.\n"
        content = (text + "".join(f"{line}\n" for line in sorted(texts))).encode()
        where = (chart.chart, chart.version, "noarch", chart.images_file)
        entry = put(self._mirror, content, *where, source="helm template")
        self.outcomes.append(Outcome(entry.path, "rendered", entry.size, entry.sha256))

    # -- sizes ---------------------------------------------------------------------------------------------------

    def _show(self, things: list[Thing]) -> None:
        """Tell sizes before the large downloads begin, and refuse to begin what cannot fit."""
        lock = read(self._mirror)
        with ThreadPoolExecutor(ASKING) as pool:
            announced = list(pool.map(lambda thing: self._sized(thing, lock), things))
        self._options.announce(announced)
        wanted = sum(thing.size or 0 for thing in announced if not thing.present)
        free = shutil.disk_usage(self._mirror).free
        if wanted > free:
            raise SkerryError(
                "MIRROR_018", f"{wanted / 1e6:.0f} MB to download, {self._mirror} has {free / 1e6:.0f} MB left",
                "choose another directory with --dir or SKERRY_MIRROR, or free some space", Exit.PREREQUISITE,
            )

    def _sized(self, thing: Thing, lock: Lock) -> Announced:
        known = lock.index().get(thing.key)
        place = self._mirror / thing.path
        if known and place.is_file() and place.stat().st_size == known.size:
            return Announced(thing.path, known.size, True)
        try:
            return Announced(thing.path, thing.ask(known), False)
        except SkerryError:
            return Announced(thing.path, None, False)  # fetching it will tell what is wrong


def build(mirror: Path, plan: Plan, options: Options) -> list[Outcome]:
    """Bring everything that is wanted into the mirror; the lock is written after each file.

    One that fails does not stop the others. A second run downloads what is missing or damaged only.

    Raises:
        SkerryError: MIRROR_001, MIRROR_002 (the mirror itself cannot be read or written), MIRROR_018 (no room).
    """
    with guarded(mirror):
        try:
            outcomes = Builder(mirror, plan, options).run()
        except OSError as error:
            raise SkerryError(
                "MIRROR_002", f"{error.filename or mirror} cannot be written: {error.strerror}",
                f"check rights and free space of {mirror} (df -h), then run again", Exit.PREREQUISITE,
            ) from error
        for folder in (mirror / PARTIAL / "images", mirror / PARTIAL):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    return outcomes
