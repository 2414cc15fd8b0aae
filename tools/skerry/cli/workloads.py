"""``skerry workloads``: build the measured programs, list them."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from skerry.errors import SkerryError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Build the measured programs from their sources.")

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Workloads; all when none is named.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.command()
def build(
    names: Names = None,
    arch: Annotated[
        list[str] | None,
        typer.Option("--arch", help="Architecture of native controls: amd64, arm64, arm or all; repeatable. "
                     "This machine's when none is named. The wasm module is always built."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build workloads: the wasm module, and the native controls from the same source.

    A build is keyed by its sources, compiler and command line; what is in the cache already is not built again.
    """
    from rich.console import Console
    from rich.table import Table

    from skerry.workloads import build as builder
    from skerry.workloads import manifest, toolchain

    wanted = list(arch or [builder.own_architecture()])
    if "all" in wanted:
        wanted = [target for target in toolchain.TARGETS if target != "wasm"]
    for name in wanted:
        if name not in toolchain.TARGETS or name == "wasm":
            known = ", ".join(target for target in toolchain.TARGETS if target != "wasm")
            raise SkerryError("WORKLOAD_006", f"no architecture is called {name!r}", f"there are: {known}, all")
    workloads = manifest.load_all(names)
    targets = list(dict.fromkeys(["wasm", *wanted]))
    if as_json:
        builder.build(workloads, targets, lambda built: typer.echo(json.dumps(built.as_dict())))
        return
    table = Table("workload", "target", "bytes", "sha256", "compiler", "took")
    table.columns[2].justify = table.columns[5].justify = "right"
    with Console(stderr=True).status("building") as status:

        def show(built: builder.Built) -> None:
            status.update(f"built {built.workload} for {built.target}")
            took = "cached" if built.cached else f"{built.seconds:.1f} s"
            table.add_row(built.workload, built.target, f"{built.size:,}", built.sha256[:16], built.toolchain, took)

        results = builder.build(workloads, targets, show)
    Console().print(table)
    typer.echo(f"in {results[0].path.parents[3]}" if results else "nothing to build")


@app.command("list")
def list_workloads(as_json: Json = False) -> None:
    """List the workloads that the tree has."""
    from rich.console import Console
    from rich.table import Table

    from skerry.workloads import manifest

    workloads = manifest.load_all()
    if as_json:
        for workload in workloads:
            typer.echo(json.dumps({**workload.model_dump(), "directory": str(workload.directory)}))
        return
    table = Table("workload", "language", "sizes", "what it does")
    for workload in workloads:
        table.add_row(workload.name, workload.language, ", ".join(workload.sizes), workload.summary)
    Console().print(table)
