"""``skerry sandbox``: test hosts on this machine."""

from __future__ import annotations

import json
import os
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from skerry.errors import Exit

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Make and remove test hosts on this machine.")

Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the sandbox; several can be up at once.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def up(
    edge: Annotated[int | None, typer.Option("--edge", metavar="N", help="Number of edge hosts (default two).")] = None,
    arm64: Annotated[
        bool, typer.Option("--arm64", help="One host more, arm64 under emulation (the first time: 10 minutes).")
    ] = False,
    link: Annotated[
        list[str] | None,
        typer.Option(
            "--link",
            metavar="HOST=LINK",
            help="Emulated link: lan, wifi, 4g, 5g, satellite, none, or "
            "latency=40ms,jitter=10ms,loss=1%,rate=10mbit. HOST may hold * and ?. May be repeated.",
        ),
    ] = None,
    name: Name = "skerry",
    as_json: Json = False,
) -> int:
    """Make the hosts, or bring them to what is asked now; what is not mentioned stays as it was.

    One cloud host (Debian 13) and two edge hosts (Debian 12 and 13, 512 MB and one core each) unless asked otherwise.
    """
    from rich.console import Console

    from skerry.sandbox import commands, plans, settings, status

    plan = plans.revise(plans.stored(name) or plans.Plan(name), edge, arm64, link or [])
    outcome = commands.up(plan, None if as_json else Console(stderr=True))
    inventory = plans.folder(name)
    sandbox = status.load(inventory)
    changed = any(host.changed for host in outcome.progress.hosts.values())
    if as_json:
        hosts = [
            {"name": host.name, "address": host.address, "release": host.image, "arch": host.arch}
            for host in sandbox.hosts.values()
        ]
        typer.echo(
            json.dumps(
                {
                    "name": name,
                    "inventory": str(inventory),
                    "changed": changed,
                    "seconds": round(outcome.seconds, 2),
                    "hosts": hosts,
                }
            )
        )
        return int(Exit.OK)
    typer.echo(
        f"{len(sandbox.hosts)} hosts are up after {outcome.seconds:.0f} s"
        f"{'' if changed else ' (nothing had to change)'}: {', '.join(sandbox.hosts)}"
    )
    for setting in settings.changed():
        typer.echo(f"  set here:  {setting} (until the last sandbox is down)")
    shown = os.path.relpath(inventory)
    typer.echo(
        f"  log in:    skerry sandbox ssh {next(iter(sandbox.hosts))}{_named(name)}\n"
        f"  provision: skerry provision -i {shown}"
    )
    return int(Exit.OK)


def _named(name: str) -> str:
    return "" if name == "skerry" else f" --name {name}"


@app.command()
def down(
    name: Name = "skerry",
    every: Annotated[bool, typer.Option("--all", help="All sandboxes of this checkout.")] = False,
    images: Annotated[bool, typer.Option("--images", help="Remove the cached host images, too.")] = False,
    stop_engine: Annotated[
        bool, typer.Option("--engine", help="Stop Docker Engine, too, if Skerry started it. Other containers end.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Remove the hosts with all that belongs to them: volumes, network, links, keys, generated inventory."""
    from rich.console import Console

    from skerry.sandbox import commands, engine, plans

    console = None if as_json else Console(stderr=True)
    names = plans.known() if every else [name]
    removed = [one for one in names if commands.down(one, console)]
    gone = commands.remove_images() if images else []
    stopped = engine.stop() if stop_engine else False
    if as_json:
        typer.echo(json.dumps({"removed": removed, "images": gone, "engine_stopped": stopped}))
        return int(Exit.OK)
    typer.echo(f"removed: {', '.join(removed)}" if removed else "there was nothing to remove")
    if images:
        typer.echo(f"images removed: {', '.join(gone) or 'none'}")
    if stop_engine:
        typer.echo("Docker Engine stopped" if stopped else "Docker Engine was not started by Skerry: it was left alone")
    return int(Exit.OK)


def _link_text(host: dict[str, Any]) -> str:
    seen = host["link_measured"]
    if seen is None:
        return ""
    if seen["rtt_ms"] is None:
        return f"nothing comes back ({seen['why']})"
    text = f"rtt {seen['rtt_ms']:.1f} ± {seen['rtt_deviation_ms']:.1f} ms, {seen['loss_percent']:g} % lost"
    if seen["down_mbit"] is not None:
        text += f", {seen['down_mbit']:.1f}/{seen['up_mbit']:.1f} Mbit/s"
    return text + (f" ({seen['why']})" if seen["why"] else "")


def _host_table(hosts: list[dict[str, Any]]) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("host", "address", "release", "cores", "memory (MiB)", "login"):
        grid.add_column(column)
    for host in hosts:
        used = "-" if host["memory_used"] is None else f"{host['memory_used'] >> 20}"
        login = (
            Text(host["problem"], "red") if host["login_seconds"] is None else Text(f"{host['login_seconds']:.2f} s")
        )
        grid.add_row(
            host["name"],
            host["address"],
            f"{host['release']} {host['arch']}",
            f"{host['cpus']:g}",
            f"{used} of {host['memory'] >> 20}",
            login,
        )
    return grid


def _link_table(hosts: list[dict[str, Any]]) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("host", "link, one way", "measured, there and back"):
        grid.add_column(column)
    for host in hosts:
        asked = (
            Text(host["link_asked"]) if host["link_in_force"] else Text(f"{host['link_asked']}: not in force", "red")
        )
        grid.add_row(host["name"], asked, _link_text(host))
    return grid


@app.command()
def status(
    name: Name = "skerry",
    measured: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Send packets over each link and show what it does.")
    ] = True,
    as_json: Json = False,
) -> int:
    """Show hosts, logins and links: asked, and in force as measured. Exit code 1 when a host is not well."""
    from rich.console import Console

    from skerry.sandbox import plans
    from skerry.sandbox import status as find

    sandbox = find.load(plans.folder(name))
    hosts = [host.as_dict() for host in find.collect(sandbox, measured)]
    well = all(host["login_seconds"] is not None and host["link_in_force"] for host in hosts)
    if as_json:
        typer.echo(json.dumps({"name": name, "inventory": str(plans.folder(name)), "well": well, "hosts": hosts}))
        return int(Exit.OK if well else Exit.FAILED)
    console = Console()
    console.print(_host_table(hosts))
    console.print()
    console.print(_link_table(hosts))
    if not well:
        typer.echo(f"not everything is as asked: skerry sandbox up{_named(name)} puts it right", err=True)
    return int(Exit.OK if well else Exit.FAILED)


@app.command()
def ssh(
    host: Annotated[str, typer.Argument(metavar="HOST", help="A host of the sandbox.")],
    command: Annotated[list[str] | None, typer.Argument(metavar="[-- COMMAND...]", help="Without: a shell.")] = None,
    name: Name = "skerry",
) -> None:
    """Log in to a host as user skerry (who may use sudo), or run one command there; its exit code is kept."""
    import shlex

    from skerry.errors import SkerryError
    from skerry.sandbox import plans
    from skerry.sandbox import status as find

    sandbox = find.load(plans.folder(name))
    if host not in sandbox.hosts:
        raise SkerryError(
            "SANDBOX_018",
            f"there is no host {host!r} in the sandbox {name!r}",
            f"choose one of {', '.join(sandbox.hosts)}",
        )
    if not (sandbox.state / "ssh_config").exists():
        raise SkerryError(
            "SANDBOX_019", f"the sandbox {name!r} is not up", f"skerry sandbox up{_named(name)}", Exit.UNREACHABLE
        )
    words = find.ssh_command(sandbox, host) + ([shlex.join(command)] if command else [])
    os.execvp(words[0], words)
