"""The stages of `skerry test`: what each runs, how long it may take and what it needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from skerry import paths

#: Roles in the order in which site.yml applies them; scenarios of others follow by name.
ROLE_ORDER = ("preflight", "host_tuning", "docker", "wasm_runtime", "k3s")
KUBERNETES_BUILD = "kubernetes build"


class Mode(StrEnum):
    """How much is run."""

    QUICK = "quick"  #: no hosts: the inner loop, under two minutes
    DEFAULT = "default"  #: what .ci/run runs
    FULL = "full"  #: the whole matrix


#: Seconds for all stages together; what has not run by then is not run, and cleaning up still is. They and the stages'
#: own deadlines end what hangs: two cores need 35 minutes for the default, with nothing cached on a slow day half more.
TOTAL = {Mode.QUICK: 600.0, Mode.DEFAULT: 60 * 60.0, Mode.FULL: 4 * 3600.0}


class Need(StrEnum):
    """What a stage needs beyond the environment; a stage whose need is not met is skipped with the reason."""

    HOSTS = "hosts"
    BROWSER = "browser"
    K3S = "k3s"
    KUBERNETES = "kubernetes"
    MONITORING = "monitoring"


@dataclass(frozen=True)
class Stage:
    """One step with one log.

    Attributes:
        commands: run one after another, all of them, also when one fails.
        deadline: seconds for all commands together; then the stage is ended and has failed.
        wants: provided where possible; tests of the stage that miss it skip themselves.
        together: may run at the same time as any other stage; the rest share hosts, and run one after another.
        requires: stages that must have passed.
        always: runs at the end whatever happened, once any stage of ``cleans`` was started.
        junit: the stage writes JUnit reports, whose cases are counted.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    deadline: float
    needs: tuple[Need, ...] = ()
    wants: tuple[Need, ...] = ()
    together: bool = False
    requires: tuple[str, ...] = ()
    always: bool = False
    cleans: tuple[str, ...] = ()
    junit: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The stage's name as a file name."""
        return self.name.replace(" ", "-")

    def log(self) -> Path:
        """Where the stage's output is kept."""
        return folder() / f"{self.slug}.log"

    def report(self) -> Path:
        """The JUnit file that the stage writes."""
        return folder() / "junit" / f"{self.slug}.xml"


def folder() -> Path:
    """Logs and reports of the last run."""
    return paths.state() / "test"


def _tool(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)


def _static() -> list[Stage]:
    root = paths.root()
    generators = [root / "tools" / name for name in ("role_readme.py", "support_table.py", "reference_pages.py")]
    playbooks = [root / "site.yml", *sorted((root / "playbooks").glob("*.yml"))]
    syntax = ("ansible-playbook", "--syntax-check", "-i", "inventories/lab", *(str(path) for path in playbooks))
    return [
        Stage("ansible-lint", (("ansible-lint", "--offline", "--nocolor"),), 600, together=True),
        Stage("mypy", (("mypy", "--no-color-output"),), 300, together=True),
        Stage("ruff", (("ruff", "check", "."),), 60, together=True),
        Stage("yamllint", (("yamllint", "--strict", "."),), 120, together=True),
        Stage("generated", tuple(_tool(str(path), "--check") for path in generators), 120, together=True),
        Stage("syntax", (syntax,), 180, together=True),
        Stage(
            "inventories",
            tuple(_tool("-m", "skerry", "inventory", "check", "-i", f"inventories/{n}") for n in ("lab", "continuum")),
            60,
            together=True,
        ),
    ]


def _pytest(name: str, target: str, deadline: float, *extra: str, **more: object) -> Stage:
    report = folder() / "junit" / f"{name.replace(' ', '-')}.xml"
    command = _tool("-m", "pytest", target, "-q", "--color=no", "--durations=12", f"--junitxml={report}", *extra)
    return Stage(name, (command,), deadline, junit=True, **more)  # type: ignore[arg-type]


def scenarios() -> list[str]:
    """Molecule scenarios of roles, in the order in which they build on one another."""
    found = {path.parent.name for path in (paths.root() / "molecule").glob("*/molecule.yml")} - {"default"}
    return [name for name in ROLE_ORDER if name in found] + sorted(found - set(ROLE_ORDER))


def _kubernetes(mine: dict[str, str]) -> list[Stage]:
    """A real API server, built once for each state of tests/kube/go (minutes), and what is tested on it (seconds)."""
    needs = (Need.KUBERNETES,)
    build = _tool("-m", "skerry.testing.kube", "build")
    tests = _pytest("kubernetes", "tests/kube", 900, "--timeout=300", needs=needs, requires=(KUBERNETES_BUILD,),
                    wants=(Need.MONITORING,), together=True, environment=mine)
    return [Stage(KUBERNETES_BUILD, (build,), 1800, needs=needs, together=True), tests]


def _hosts(mode: Mode, keep: bool) -> list[Stage]:
    """The shared hosts, made anew (or, with ``keep``, used as they are), and each role's scenario on them."""
    # Two checkouts must not share Molecule's state, which it keeps by the folder's name otherwise. Each scenario gets a
    # copy of what `create` left: in one shared place the first `prepare` would count as everybody's.
    state = folder() / "molecule"
    mine = {"SKERRY_TEST_MODE": mode.value}
    environment = {**mine, "MOLECULE_EPHEMERAL_DIRECTORY": str(state / "default")}
    create, destroy = (("molecule", verb, "-s", "default") for verb in ("create", "destroy"))
    commands = (create,) if keep else (destroy, create)
    stages = [Stage("hosts up", commands, 600, needs=(Need.HOSTS,), environment=environment)]
    for name in scenarios():
        report = folder() / "junit" / f"role-{name}.xml"
        stages.append(
            Stage(
                f"role {name}",
                (
                    ("cp", "-rT", str(state / "default"), str(state / name)),
                    ("molecule", "test", "-s", name, "--destroy", "never"),
                ),
                900 if mode is Mode.FULL else 600,
                needs=(Need.HOSTS, Need.K3S) if name == "k3s" else (Need.HOSTS,),
                requires=("hosts up",),
                junit=True,
                environment={
                    **mine,
                    "MOLECULE_EPHEMERAL_DIRECTORY": str(state / name),
                    "PYTEST_ADDOPTS": f"--junitxml={report}",
                },
            )
        )
    seconds = 3600 if mode is Mode.FULL else 1500
    stages.append(_pytest("e2e", "tests/e2e", seconds, "--timeout=900", "-m", "not own_hosts", needs=(Need.HOSTS,),
                          environment=mine))
    if not keep:
        stages.append(Stage("hosts down", (destroy,), 180, needs=(Need.HOSTS,), environment=environment, always=True,
                            cleans=("hosts up",)))
    return stages


def _own_hosts(mode: Mode) -> Stage:
    """Tests that make hosts of their own, beside the others; the images are those of the shared hosts."""
    seconds = 7200 if mode is Mode.FULL else 1800
    return _pytest("e2e own hosts", "tests/e2e", seconds, "--timeout=900", "-m", "own_hosts", needs=(Need.HOSTS,),
                   requires=("hosts up",), together=True, environment={"SKERRY_TEST_MODE": mode.value})


def plan(mode: Mode, only: Sequence[str] = (), keep: bool = False) -> list[Stage]:
    """Stages of ``mode`` in their order.

    Args:
        only: keep those named (a role's name stands for its scenario), with what they require.
        keep: use hosts that are up, and leave them up: for the inner loop.
    """
    mine = {"SKERRY_TEST_MODE": mode.value}
    unit = _pytest("unit", "tests/unit", 240, "-n", "2", "--timeout=120", together=True, environment=mine)
    stages = [*_static(), unit]
    if mode is not Mode.QUICK:
        # What takes longest begins first: the shared hosts, and beside them one after another what may.
        build, tests = _kubernetes(mine)
        wants = (Need.BROWSER, Need.MONITORING)
        integration = _pytest("integration", "tests/integration", 1800, "--timeout=300", wants=wants, together=True,
                              environment=mine)
        stages = [build, *_hosts(mode, keep), integration, _own_hosts(mode), *stages, tests]
        stages.sort(key=lambda stage: stage.always)
    if not only:
        return stages
    wanted = set(only) | {f"role {name}" for name in only}
    chosen = [stage for stage in stages if stage.name in wanted]
    required = {need for stage in chosen for need in stage.requires}
    return [s for s in stages if s in chosen or s.name in required or (s.always and required & set(s.cleans))]
