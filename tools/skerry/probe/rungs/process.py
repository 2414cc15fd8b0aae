"""A runtime's command line: ``wasmtime run``, ``wasmedge``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ..faults import ProbeError
from ..hostinfo import find_command
from ..procs import Program, Take, execute
from ..traps import UNKNOWN, from_text
from .base import Host, Result, Rung, Slot, Spec, capability, from_ended
from .outcomes import refused
from .words import Tail, Words

#: The runtimes' own environment: no settings of the login get in.
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "NO_COLOR": "1"}
_MODES = {"wasmtime": ("aot", "jit"), "wasmedge": ("interpreter", "aot")}
#: What each prints when the module cannot be loaded or linked.
REFUSALS = re.compile(
    r"failed to (parse|compile)|unknown import|loading failed|validation failed|instantiation failed|"
    r"function name is required|no function.*_start|unable to load|failed to instantiate|wasm function not found"
)


_WASMTIME_ERROR = re.compile(r"^Error: failed to ", re.MULTILINE)


def installed(host: Host, engine: str) -> tuple[str | None, str, str | None]:
    """(command, version, reason): from the fact file; where no role ran, what PATH has."""
    section = host.section("wasm_runtime")
    if section is not None:
        entry = (section.get("runtimes") or {}).get(engine)
        if not entry:
            return None, "", f"the role wasm_runtime did not install {engine} here"
        if not entry.get("proved"):
            return (
                None,
                str(entry.get("version") or ""),
                "{} did not pass its probe: {}".format(engine, entry.get("error")),
            )
        return entry.get("command"), str(entry.get("version") or ""), None
    command = find_command(engine)
    if command is None:
        return None, "", f"no command {engine} on the host"
    said = subprocess.run(
        [command, "--version"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_ENVIRONMENT,
        timeout=20,
        check=False,
    ).stdout.decode("utf-8", "replace")
    found = re.search(r"\d+\.\d+\.\d+\S*", said)
    return command, found.group(0) if found else "", None


class _ProcessSlot(Slot):
    def __init__(self, host: Host, spec: Spec) -> None:
        super().__init__(host, spec)
        command, _, reason = installed(host, spec.engine)
        if command is None:
            raise ProbeError("RUN_015", reason or "no command", "run the role wasm_runtime on this host")
        self.command = command
        # WasmEdge makes the file's name the module's own (argv[0]).
        self.module = self.directory / (spec.name.replace("/", "_") or "module")
        shutil.copyfile(self.program(), self.module)
        if spec.mode == "aot":
            self.module = self._compile()

    def _compile(self) -> Path:
        wasmtime = self.spec.engine == "wasmtime"
        out = self.directory / "aot" / self.module.name
        out.parent.mkdir()
        made = out if wasmtime else out.with_name(out.name + ".so")
        argv = [
            self.command,
            "compile",
            *(["-o", str(made), str(self.module)] if wasmtime else [str(self.module), str(made)]),
        ]
        words = bytearray()
        self.compiler(Program(self.command, argv, _ENVIRONMENT), lambda _, data: words.extend(data))
        if not made.exists():
            raise refused(words.decode("utf-8", "replace"))
        os.rename(made, out)
        return out

    def _argv(self) -> list[str]:
        spec, argv = self.spec, [self.command]
        if spec.engine == "wasmtime":
            argv += ["run", "--argv0", spec.name]
            argv += ["--allow-precompiled"] if spec.mode == "aot" else []
            for host, guest in self.dirs:
                argv += ["--dir", f"{host}::{guest}"]
        else:
            argv += ["--force-interpreter"] if spec.mode == "interpreter" else []
            for host, guest in self.dirs:
                argv += ["--dir", f"{guest}:{host}"]
        for key, value in spec.env:
            argv += ["--env", f"{key}={value}"]
        return [*argv, "--", str(self.module), *spec.args]

    def once(self, take: Take, memory: bool) -> Result:
        """See `Slot.once`."""
        spec = self.spec
        tail = Tail(take)
        words = Words(tail) if spec.engine == "wasmedge" else None
        group = self.host.cgroups.new(spec.memory)
        stdin = self.stdin()
        try:
            child = Program(self.command, self._argv(), _ENVIRONMENT)
            ended = execute(child, stdin, spec.limits, group, words or tail, self.watch(memory, group))
            result = from_ended(ended, group)
        finally:
            os.close(stdin)
            if group is not None:
                group.remove()
        said = words.finish(bool(result.exit_code) or result.trap is not None) if words else ""
        if result.limit is None:
            judge(result, spec.engine, said, tail.text)
        return result


def judge(result: Result, engine: str, said: str, tail: str) -> None:
    """Tell a trap and a refusal from an exit, by the exit code together with the runtime's own last words.

    Raises:
        ProbeError: the runtime refused the module.
    """
    if engine == "wasmtime":
        _judge_wasmtime(result, tail)
        return
    if result.exit_code == 1 and (REFUSALS.search(said) or (not said and REFUSALS.search(tail))):
        raise refused(said or tail)
    if said and "execution failed" in said:
        result.message = said
        result.trap = from_text(said.splitlines()[0]) or UNKNOWN
        result.exit_code = None


def _judge_wasmtime(result: Result, tail: str) -> None:
    errors = list(_WASMTIME_ERROR.finditer(tail))
    if not errors:
        return
    said = tail[errors[-1].start() :]
    if result.exit_code == 1 and REFUSALS.search(said):
        raise refused(said)
    # A trap ends the command with 134 (as SIGABRT would) on Unix.
    if result.trap is not None or result.exit_code == 134:
        cause = said.rfind("wasm trap: ")
    else:
        cause = said.rfind("exit with invalid exit status") if result.exit_code == 1 else -1
    if cause >= 0:
        result.trap = from_text(said[cause:]) or UNKNOWN
        result.exit_code = None
        result.message = said
        result.stderr_foreign = len(said.encode())


class Process(Rung):
    """Needs the role wasm_runtime, or a runtime on PATH."""

    name = "process"

    def capabilities(self, host: Host) -> list[dict[str, Any]]:
        """See `Rung.capabilities`."""
        found = []
        for engine, modes in _MODES.items():
            _, version, reason = installed(host, engine)
            section = host.section("wasm_runtime") or {}
            known = ((section.get("runtimes") or {}).get(engine) or {}).get("modes")
            for index, mode in enumerate(modes):
                lacking = reason
                if reason is None and known is not None and mode not in known:
                    lacking = f"{engine} {version} was built without mode {mode}"
                found.append(capability(self.name, engine, version, mode, lacking, default=index == 0))
        return found

    def open(self, host: Host, spec: Spec) -> Slot:
        """See `Rung.open`."""
        return _ProcessSlot(host, spec)
