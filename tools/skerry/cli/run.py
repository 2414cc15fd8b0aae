"""``skerry run``: one WebAssembly module on every chosen host and rung."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.errors import Exit, SkerryError

if TYPE_CHECKING:
    from skerry.running.execute import Job, Report
    from skerry.running.plan import Missing
    from skerry.targets.api import RunResult, Target

app = typer.Typer(add_completion=False)


def _pairs(values: list[str], option: str, separator: str, example: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for value in values:
        first, found, second = value.partition(separator)
        if not found or not first or (option == "--dir" and not second):
            raise SkerryError(
                "RUN_032", f"{option} {value!r} is not of the form {example}", f"write {option} {example}"
            )
        pairs.append((first, second))
    return tuple(pairs)


def _dirs(values: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = _pairs(values, "--dir", "::", "HOST_DIR::GUEST_DIR")
    for host, guest in pairs:
        if not host.startswith("/") or not guest.startswith("/"):
            raise SkerryError(
                "RUN_032",
                f"--dir {host}::{guest}: both directories must be absolute",
                "HOST_DIR is a directory on the hosts, GUEST_DIR where the module sees it",
            )
    return pairs


def _natives(values: list[str]) -> dict[str, Path]:
    natives = {arch: Path(file) for arch, file in _pairs(values, "--native", "=", "ARCH=FILE")}
    for file in natives.values():
        if not file.is_file():
            raise SkerryError("RUN_001", f"{file} cannot be read", "name a static native build of the module's source")
    return natives


def _stdin(given: str | None) -> Path | None:
    """The file that standard input is read from; ``-`` keeps this command's own input in a temporary file."""
    if given is None:
        return None
    if given == "-":
        with tempfile.NamedTemporaryFile(prefix="skerry-stdin-", delete=False) as file:
            while piece := sys.stdin.buffer.read(1 << 20):
                file.write(piece)
        return Path(file.name)
    if not Path(given).is_file():
        raise SkerryError("RUN_001", f"--stdin {given} cannot be read", "name a file, or - for standard input")
    return Path(given)


_OpenFiles = Annotated[int, typer.Option(min=16, help="Descriptors that it may have open, the runtime's own included.")]
_Directories = Annotated[
    list[str] | None,
    typer.Option("--dir", metavar="HOST_DIR::GUEST_DIR", help="A directory OF THE HOST that the module may use."),
]
_Native = Annotated[
    list[str] | None, typer.Option(metavar="ARCH=FILE", help="A static native build of the same program: the control.")
]


@app.command(
    context_settings={"allow_extra_args": False},
    epilog="Exit codes: 0 every run exited with 0; 1 a run exited otherwise, trapped, met a limit or could not be made;"
    " 2 bad input; 3 something is missing here; 4 a host could not be reached; 130 interrupted.",
)
def run(
    module: Annotated[Path, typer.Argument(help="A WASI preview 1 command (.wasm).")],
    args: Annotated[list[str] | None, typer.Argument(help="The module's arguments, after --.")] = None,
    inventory: Annotated[
        list[str] | None, typer.Option("-i", "--inventory", help="Inventory file or directory; without: this machine.")
    ] = None,
    on: Annotated[str | None, typer.Option(help="Ansible host pattern: only these hosts.")] = None,
    rung: Annotated[
        list[str] | None,
        typer.Option(help="native, embedded, process, container, pod; also embedded/wasmtime or process/wasmedge/aot."),
    ] = None,
    stdin: Annotated[
        str | None, typer.Option(help="File for standard input (- for this command's own); else empty.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="A variable of the module's environment.")
    ] = None,
    directory: _Directories = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds for each run; 0 for no limit.")] = 60.0,
    memory: Annotated[str | None, typer.Option(help="Memory for each run, like 64M.")] = None,
    output_limit: Annotated[str, typer.Option(help="Bytes that a run may print, both streams together.")] = "16M",
    open_files: _OpenFiles = 256,
    disk: Annotated[str, typer.Option(help="Bytes that a run may write to files.")] = "256M",
    native: _Native = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line for each host and rung.")] = False,
) -> int:
    """Run one WebAssembly module on every chosen host and rung, and leave nothing behind there."""
    from skerry.running import plan, units
    from skerry.running.execute import Job
    from skerry.running.module import inspect
    from skerry.targets import inventory as inventories
    from skerry.targets.api import RunSpec

    plan.check_names(rung or [])
    spec = RunSpec(
        "",
        "",
        tuple(args or ()),
        module.name,
        _pairs(env or [], "--env", "=", "K=V"),
        dirs=_dirs(directory or []),
        timeout=timeout or None,
        memory=units.size(memory, "--memory") if memory else None,
        output_limit=units.size(output_limit, "--output-limit"),
        open_files=open_files,
        disk=units.size(disk, "--disk"),
    )
    inspect(module)
    natives = _natives(native or [])
    if on and not inventory:
        raise SkerryError("RUN_033", "--on chooses hosts of an inventory, and none is named", "name it with -i")
    targets = inventories.read(inventory, on) if inventory else [inventories.this_machine()]
    source = _stdin(stdin)
    try:
        return _go(targets, Job(module, natives, rung or [], spec, source), as_json)
    finally:
        if stdin == "-" and source is not None:
            source.unlink()


def _go(targets: list[Target], job: Job, as_json: bool) -> int:
    from skerry.running import show
    from skerry.running.execute import Listener, run_everywhere
    from skerry.targets.api import Fault

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    streams = show.Streams(len(targets) == 1 and len(job.rungs) == 1 and job.rungs[0].count("/") == 2, colour)

    def label(host: str, key: str) -> str:
        return f"{host} {key}"

    def missing(entry: Missing) -> None:
        if as_json and entry.asked:
            rung, engine, mode = entry.key.split("/")
            fault = Fault("RUN_015", f"host {entry.host} cannot run {entry.key}: {entry.reason}", "choose another rung")
            show.line(show.failed_object(entry.host, rung, fault, engine, mode))

    def ended(result: RunResult) -> None:
        if as_json:
            show.line(show.as_object(result))
        else:
            streams.finish(label(result.host, f"{result.rung}/{result.runtime}/{result.mode}"))

    listener = Listener(
        lambda host, entry, name, data: None if as_json else streams.write(label(host, entry.key), name, data),
        ended,
        missing,
        lambda host, fault: show.line(show.failed_object(host, None, fault)) if as_json else None,
    )
    report = run_everywhere(targets, job, listener)
    if not as_json:
        show.table(report.results, report.missing, report.faults, show.console(colour))
    return _code(report)


def _code(report: Report) -> int:
    """See the epilog of the command's help."""
    if any(fault.code.startswith("TARGET_") for fault in report.faults.values()):
        return Exit.UNREACHABLE
    asked = [entry for entry in report.missing if entry.asked]
    if report.faults or not report.results or any(one.exit_code != 0 for one in report.results) or asked:
        return Exit.FAILED
    return Exit.OK
