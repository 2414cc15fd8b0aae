"""``skerry image``: modules as OCI images and artifacts, without a daemon."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from skerry.cli.options import Inventory, On

if TYPE_CHECKING:
    from skerry.oci.layout import Layout
    from skerry.oci.login import Access

app = typer.Typer(add_completion=False, no_args_is_help=True)

Ref = Annotated[str, typer.Argument(metavar="REF", help="registry/repository:tag, with or without oci://.")]
Folder = Annotated[Path | None, typer.Option("--layout", help="OCI layout to use; default ~/.cache/skerry/oci.")]
Authority = Annotated[Path | None, typer.Option("--ca", help="PEM file of the only authority to trust.")]
User = Annotated[str, typer.Option(help="User at the registry; needs --password-file.")]
PasswordFile = Annotated[str, typer.Option(metavar="FILE", help="File whose only line is the password; - is stdin.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


class Engine(StrEnum):
    """Where images can be loaded on a host."""

    DOCKER = "docker"
    CONTAINERD = "containerd"


@app.callback()
def group() -> None:
    """Modules as OCI images and artifacts, without a daemon.

    Logins come from --user and --password-file, else from $SKERRY_REGISTRY_USER and $SKERRY_REGISTRY_PASSWORD, else
    from where docker login leaves them. Authorities: --ca, $SKERRY_REGISTRY_CA, /etc/docker/certs.d.
    """


def _layout(folder: Path | None) -> Layout:
    from skerry.oci.layout import Layout

    return Layout(folder)


def _access(ref: str, user: str, password_file: str, authority: Path | None) -> Access:
    from skerry.oci.kinds import refer
    from skerry.oci.login import access

    return access(refer(ref).registry, user, password_file, authority)


def _pairs(given: list[str], option: str) -> dict[str, str]:
    found = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint=option)
        found[key] = value
    return found


def _moved(moved: Any, verb: str, as_json: bool) -> None:
    from skerry.cli.mirror import size_text

    if as_json:
        typer.echo(json.dumps({"reference": moved.reference.text, "digest": moved.digest, "size": moved.size,
                               "moved": moved.moved, "changed": moved.changed}))
        return
    how = f"{verb} {size_text(moved.moved)} of {size_text(moved.size)}" if moved.changed else "unchanged"
    typer.echo(f"{moved.reference.text}\n{moved.digest}  {how}")


@app.command()
def build(
    module: Annotated[Path, typer.Argument(metavar="MODULE", help="A .wasm file: module or component.")],
    tag: Annotated[str, typer.Option("-t", "--tag", metavar="REF", help="Its name: registry/repository:tag.")],
    form: Annotated[Literal["image", "artifact"], typer.Option(
        help="image: for crun and runwasi's shims; artifact: wasm's own OCI artifact.")] = "image",
    platform: Annotated[list[str] | None, typer.Option(
        help="Of an image: os/architecture[/variant], repeatable; default linux for amd64, arm64 and arm/v7.")] = None,
    name: Annotated[str, typer.Option(help="Name of the file inside; default the module's.")] = "",
    arg: Annotated[list[str] | None, typer.Option(help="Default argument of an image; repeatable.")] = None,
    env: Annotated[list[str] | None, typer.Option(
        metavar="KEY=VALUE", help="Environment of an image, for everybody to read: no secrets; repeatable.")] = None,
    annotation: Annotated[list[str] | None, typer.Option(
        metavar="KEY=VALUE", help="Annotation of the manifest; repeatable.")] = None,
    layout: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Pack a module under a name; the same input gives the same digest."""
    from skerry.oci.build import PLATFORMS, Recipe
    from skerry.oci.build import build as pack
    from skerry.oci.kinds import refer

    recipe = Recipe(form, name, platform or PLATFORMS, arg or (), _pairs(env or [], "--env"),
                    _pairs(annotation or [], "--annotation"))
    reference = refer(tag)
    made = pack(_layout(layout), module, reference, recipe)
    if as_json:
        typer.echo(json.dumps({"reference": reference.text, "digest": made.digest, "form": form}))
    else:
        typer.echo(f"{reference.text}\n{made.digest}")


@app.command()
def push(
    ref: Ref,
    target: Annotated[str, typer.Option("--to", metavar="REF", help="Another name for it at the registry.")] = "",
    authority: Authority = None,
    user: User = "",
    password_file: PasswordFile = "",
    layout: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Send what was built or pulled to its registry; only what is not there yet travels."""
    from skerry.oci.kinds import refer
    from skerry.oci.transfer import push as send

    there = target or ref
    access = _access(there, user, password_file, authority)
    _moved(send(_layout(layout), refer(ref), refer(there), access), "sent", as_json)


@app.command()
def pull(
    ref: Ref,
    platform: Annotated[str, typer.Option(help="Only that platform of an index: os/architecture[/variant].")] = "",
    module: Annotated[Path | None, typer.Option(
        "--module", metavar="FILE", help="Also write the module in it to that file, or into that directory.")] = None,
    authority: Authority = None,
    user: User = "",
    password_file: PasswordFile = "",
    layout: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Fetch an image or artifact from its registry, every digest checked."""
    from skerry.oci.kinds import refer
    from skerry.oci.transfer import pull as fetch
    from skerry.oci.transfer import write_program

    reference, store = refer(ref), _layout(layout)
    moved = fetch(store, reference, _access(ref, user, password_file, authority), platform)
    written = write_program(store, reference, module) if module else None
    _moved(moved, "fetched", as_json)
    if written and not as_json:
        typer.echo(f"module: {written}")


@app.command()
def inspect(
    ref: Ref,
    local: Annotated[bool, typer.Option("--local", help="What was built or pulled here; asks no registry.")] = False,
    authority: Authority = None,
    user: User = "",
    password_file: PasswordFile = "",
    layout: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Show what a name leads to at its registry: form, platforms, sizes, a component's imports and exports."""
    from skerry.oci import transfer
    from skerry.oci.kinds import refer

    if local:
        told = transfer.inspect_local(_layout(layout), refer(ref))
    else:
        told = transfer.inspect(refer(ref), _access(ref, user, password_file, authority))
    if as_json:
        typer.echo(json.dumps(told))
        return
    for line in _lines(told):
        typer.echo(line)


def _lines(told: dict[str, Any]) -> list[str]:
    from skerry.cli.mirror import size_text

    lines = [told["reference"], f"digest       {told['digest']}", f"form         {told['form']}",
             f"type         {told['media_type']}", f"size         {size_text(told['size'])}"]
    lines += [f"platform     {one['platform']:<14} {one['digest']}" for one in told["platforms"]]
    lines += [f"layer        {one['digest']} {size_text(one['size'])} {one['mediaType']}" for one in told["layers"]]
    for key in ("os", "entrypoint", "args", "env", "imports", "exports"):
        if value := told.get(key):
            lines.append(f"{key:<12} {value if isinstance(value, str) else ' '.join(map(str, value))}")
    return [*lines, *(f"annotation   {key}={value}" for key, value in sorted(told["annotations"].items()))]


@app.command("list")
def listed(layout: Folder = None, as_json: AsJson = False) -> None:
    """List what was built or pulled here."""
    for name, entry in _layout(layout).references().items():
        typer.echo(json.dumps({"reference": name, "digest": entry["digest"]}) if as_json
                   else f"{name}  {entry['digest']}")


@app.command()
def save(
    ref: Ref,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The archive to write.")],
    platform: Annotated[str, typer.Option(help="Of an image for several: which one.")] = "linux/amd64",
    layout: Folder = None,
) -> None:
    """Write an image as the archive that docker load, ctr images import and k3s's agent/images take."""
    from skerry.oci.kinds import refer
    from skerry.oci.transfer import save as write

    write(_layout(layout), refer(ref), platform, file)
    typer.echo(f"{file}")


@app.command("import")
def bring(
    ref: Ref,
    inventory: Inventory,
    on: On = None,
    into: Annotated[list[Engine] | None, typer.Option(
        help="Engine to load it into, repeatable; default Docker and k3s's containerd where a host has them.")] = None,
    layout: Folder = None,
    host_timeout: Annotated[float, typer.Option(min=1, help="Seconds that one host may take in all.")] = 300,
    as_json: AsJson = False,
) -> int:
    """Load an image that was built or pulled here into hosts, without a registry."""
    from skerry.cli.mirror import size_text
    from skerry.oci.hosts import bring as load
    from skerry.oci.kinds import refer
    from skerry.targets import inventory as inventories

    outcome = load(_layout(layout), refer(ref), inventories.read(inventory, on),
                   [engine.value for engine in into or []], host_timeout)
    for one in outcome.loaded:
        if as_json:
            typer.echo(json.dumps({"host": one.host, "engine": one.engine, "state": one.state, "sent": one.sent,
                                   "error": one.error.as_dict() if one.error else None}))
        else:
            typer.echo(f"{one.host} {one.engine} {one.state}" + (f" ({size_text(one.sent)} sent)" if one.sent else ""))
    faults = [*outcome.faults.items(), *((one.host, one.error) for one in outcome.loaded if one.error and not as_json)]
    for host, fault in faults:
        if as_json:
            typer.echo(json.dumps({"host": host, "error": fault.as_dict()}))
        else:
            typer.echo(f"{fault.code} {fault.cause}\n  remedy: {fault.remedy}", err=True)
    return int(outcome.exit_code)


@app.command()
def remove(ref: Ref, layout: Folder = None) -> None:
    """Forget a name here, and what no other name leads to; registries are not asked."""
    from skerry.cli.mirror import size_text
    from skerry.oci.kinds import refer

    typer.echo(f"removed, {size_text(_layout(layout).remove(refer(ref)))} free")
