"""The root command. Commands are listed by name here and imported on use: ``--help`` stays fast."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import typer
from typer._click.exceptions import ClickException  # typer carries its own click; the lock file pins it
from typer.core import TyperGroup

from skerry import __version__
from skerry.errors import Exit, SkerryError

#: name -> (panel, one line of help). The module is skerry.cli.<name>, its Typer application is ``app``.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("Start here", "Three sandbox hosts, provisioned and measured, in one go (--local: this machine alone)."),
    "provision": ("Hosts", "Run site.yml on an inventory with a live view, a log and a recap."),
    "inventory": ("Hosts", "Check an inventory, or draw it."),
    "sandbox": ("Hosts", "Make and remove test hosts on this machine."),
    "mirror": ("Hosts", "Fill, check and extend a mirror of upstream artifacts."),
    "status": ("Operation", "Nodes, pods, components, runtimes and thresholds of an inventory, now."),
    "doctor": ("Operation", "Find out what is wrong, most likely cause first."),
    "run": ("Workloads", "Run one WebAssembly module on every chosen host and rung."),
    "workloads": ("Workloads", "Build the measured programs from their sources."),
    "workload": ("Workloads", "Workload files and projects: their schema, new ones."),
    "image": ("Workloads", "Modules as OCI images and artifacts: build, push, pull, import."),
    "deploy": ("Deployment", "Bring the workloads of a file to the hosts that they are for."),
    "ps": ("Deployment", "Deployed workloads: where they run and how they do."),
    "logs": ("Deployment", "What a workload prints, of all its hosts."),
    "job": ("Deployment", "Run a job or a schedule once more, now."),
    "restart": ("Deployment", "Restart a service on every host that has it."),
    "rollback": ("Deployment", "Bring a former revision into force again."),
    "undeploy": ("Deployment", "Take a workload off every host."),
    "move": ("Deployment", "Move one replica of a workload to another host, without a gap."),
    "reconcile": ("Deployment", "Bring every workload to its wanted state again; a dead host's to others."),
    "bench": ("Measurement", "Measure the overhead ladder on the hosts of an inventory."),
    "report": ("Measurement", "Show a run of the benchmark: table, page, samples."),
    "test": ("Development", "Run the project's checks (--quick, --full)."),
}


class LazyGroup(TyperGroup):
    """A group whose commands are imported when they are called, not when they are listed."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        if getattr(self, "_listing", False):
            panel, text = COMMANDS[cmd_name]
            stub = typer.core.TyperCommand(cmd_name, help=text, rich_help_panel=panel)
            stub.callback = lambda: None
            return stub
        module = importlib.import_module(f"skerry.cli.{cmd_name}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False


app = typer.Typer(
    cls=LazyGroup,
    name="skerry",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"skerry {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Skerry turns a list of hosts into a WebAssembly edge platform, and measures what that platform is worth."""


def show_error(error: SkerryError) -> None:
    """Print an error as people read it: code and cause, then the remedy, on standard error."""
    typer.echo(f"{error.code} {error.cause}\n  remedy: {error.remedy}", err=True)


def run() -> None:
    """Entry point: runs the command line and turns every expected failure into its exit code."""
    try:
        result = app(standalone_mode=False)
        sys.exit(result if isinstance(result, int) else Exit.OK)
    except SkerryError as error:
        show_error(error)
        sys.exit(error.exit_code)
    except ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("interrupted; run the same command again to carry on", err=True)
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:  # `skerry ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.FAILED)
