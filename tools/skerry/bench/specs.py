"""From a combination to what a session is asked to run: programs, inputs, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skerry.bench.metadata import DATA
from skerry.bench.plan import Options
from skerry.bench.results import EMPTY, Combination
from skerry.targets.api import RunSpec, Sample, SampleSpec, Session
from skerry.workloads import inputs
from skerry.workloads.build import MACHINES, Built
from skerry.workloads.manifest import Size, Workload

#: Seconds for a full input whose smaller one stands by, in a run of so many minutes: five runs of it must fit the
#: budget of a combination, which is less than this.
TRIAL = 6.0


class Specs:
    """Knows the programs and inputs of a run. One combination always gives the same spec: it is prepared once."""

    def __init__(self, sessions: Mapping[str, Session], workloads: Sequence[Workload], builds: Sequence[Built],
                 options: Options) -> None:
        self._sessions = sessions
        self._by_name = {workload.name: workload for workload in workloads}
        self._any = workloads[0]
        self._built = {(built.workload, built.target): built for built in builds}
        self._timeout = max(2 * options.budget, 10.0) if options.minutes is None else 20.0
        self._patience = self._timeout if options.minutes is None else TRIAL

    def has_small(self, one: Combination) -> bool:
        """Whether there is a smaller input to fall back to."""
        workload = self._by_name.get(one.workload)
        return workload is not None and "small" in workload.sizes

    def _size(self, one: Combination) -> Size:
        return self._by_name[one.workload].sizes["small" if one.size == "small" else "full"]

    def _program(self, one: Combination) -> Built:
        arch = self._sessions[one.host].facts.arch
        target = "wasm" if one.payload == "wasm" else MACHINES.get(arch, arch)
        return self._built[(self._by_name.get(one.workload, self._any).name, target)]

    def spec(self, one: Combination, memory: bool = False) -> SampleSpec:
        """What a session samples for this combination."""
        key, program = f"{one.rung}/{one.engine}/{one.mode}", self._program(one).sha256
        if one.workload == EMPTY:
            return SampleSpec(RunSpec(key, program, name=EMPTY, timeout=self._timeout), empty=True)
        size, workload = self._size(one), self._by_name[one.workload]
        files = ((f"{DATA}/{size.file.name}", size.file.sha256),) if size.file else ()
        timeout = self._patience if one.size == "full" and "small" in workload.sizes else self._timeout
        run = RunSpec(key, program, tuple(workload.arguments(DATA)), name=workload.name, files=files,
                      stdin_digest=size.stdin.sha256 if size.stdin else None, timeout=timeout)
        return SampleSpec(run, memory=memory)

    def upload(self, one: Combination) -> None:
        """Send what the combination needs, unless its host has it."""
        session = self._sessions[one.host]
        session.put(self._program(one).path)
        if one.workload != EMPTY:
            for wanted in (self._size(one).file, self._size(one).stdin):
                if wanted is not None:
                    session.put(inputs.materialise(wanted))

    def judge(self, one: Combination, sample: Sample) -> str | None:
        """None for a good sample, else what is wrong with it."""
        if sample.fault is not None:
            return f"{sample.fault.code} {sample.fault.cause}"
        if sample.limit is not None:
            return f"ended by its limit: {sample.limit}"
        if sample.trap is not None or sample.exit_code != 0:
            how = f"trap: {sample.trap}" if sample.trap is not None else f"exit code {sample.exit_code}"
            return f"{how} {sample.stderr_tail[-200:]}".strip()
        if one.workload == EMPTY or sample.stdout_digest == self._size(one).expected_sha256:
            return None
        return f"wrong output: {sample.stdout_bytes} bytes with digest {sample.stdout_digest[:16]}"
