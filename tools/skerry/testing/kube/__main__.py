"""``python -m skerry.testing.kube build``: make the programs; ``up --nodes 3``: a cluster to look at, until Ctrl-C."""

from __future__ import annotations

import signal
import sys

import typer

from skerry.cli.main import show_error
from skerry.errors import SkerryError
from skerry.testing.kube import build as programs
from skerry.testing.kube import simulated
from skerry.testing.kube.cluster import Cluster, Plan

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def build() -> None:
    """Make the programs; prints where they are."""
    typer.echo(programs.build(lambda text: typer.echo(text, err=True)))


@app.command()
def up(nodes: int = 3, pods: int = 0) -> None:
    """Start a cluster; prints the path of its kubeconfig, and ends with Ctrl-C."""
    with Cluster(Plan(nodes=nodes)) as cluster:
        names = [simulated.node(number)["metadata"]["name"] for number in range(nodes)]
        cluster.admin.create_many(simulated.pod(number, names[number % nodes]) for number in range(pods))
        typer.echo(cluster.kubeconfig)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    try:
        app()
    except SkerryError as error:
        show_error(error)
        sys.exit(error.exit_code)
