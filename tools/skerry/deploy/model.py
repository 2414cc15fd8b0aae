"""The workload file: what a person writes. One pydantic model a document; `schema` is what editors complete with."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from skerry.deploy import clock

Kind = Literal["job", "service", "schedule", "container"]
#: The rungs of the overhead ladder on which workloads are kept.
Rung = Literal["auto", "process", "container", "pod"]
Restart = Literal["never", "on-failure", "always"]

#: Kubernetes' rule for labels (RFC 1123): the name becomes a unit, a Deployment and a label.
NAME = r"^[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?$"
_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_TIMES = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


def _size(value: Any) -> Any:
    """``64Mi`` and ``64M`` as Kubernetes reads them: powers of 1024 with an i, of 1000 without."""
    if isinstance(value, str):
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]i?|)B?", value.strip(), re.IGNORECASE)
        if not found:
            raise ValueError(f"{value!r} is no size: write it like 64Mi or 1G")
        return int(float(found.group(1)) * _SIZES[found.group(2).lower()])
    return value


def _seconds(value: Any) -> Any:
    if isinstance(value, str):
        parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", value.strip())
        if not parts or "".join(number + unit for number, unit in parts) != value.strip():
            raise ValueError(f"{value!r} is no duration: write it like 30s, 5m or 1h30m")
        return sum(float(number) * _TIMES[unit] for number, unit in parts)
    return value.total_seconds() if isinstance(value, timedelta) else value


def _text(value: Any) -> Any:
    """YAML reads 8080 and true as what they look like; as an argument or a variable they are text."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Text = Annotated[str, BeforeValidator(_text), WithJsonSchema({"type": ["string", "number", "boolean"]})]
Size = Annotated[int, BeforeValidator(_size), Field(gt=0),
                 WithJsonSchema({"type": ["string", "integer"], "examples": ["64Mi", "1G"]})]
Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0),
                    WithJsonSchema({"type": ["string", "number"], "examples": ["30s", "5m"]})]
Port = Annotated[int, Field(ge=1, le=65535)]
GuestPath = Annotated[str, Field(pattern=r"^/[^\x00]*$", description="Absolute path as the module sees it.")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Secret(_Model):
    """Where a secret's value comes from, on the controller, and how the workload gets it. Never the value itself."""

    file: str | None = Field(
        default=None, description="File of the controller that holds the value (relative to this file).")
    env: str | None = Field(default=None, description="Environment variable of the controller that holds the value.")
    mount: GuestPath | None = Field(
        default=None, description="Given as this file instead of as an environment variable.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError("name either file or env")
        return self


class Directory(_Model):
    """A directory of the host that the workload may use."""

    host: str = Field(pattern=r"^/[^\x00]*$", description="Absolute path on the host; made when it is not there.")
    guest: GuestPath
    read_only: bool = Field(default=True, description="False: it may write there; a new one belongs to it.")


class ConfigFile(_Model):
    """A file that travels with the workload."""

    source: str = Field(description="File of the controller (relative to this file).")
    guest: GuestPath


class Placement(_Model):
    """Which hosts: all conditions must hold. Without any, every host of the inventory that can run it."""

    host_type: str | None = Field(default=None, description="skerry_host_type of the inventory: cloud or edge.")
    region: str | None = None
    zone: str | None = None
    arch: Literal["amd64", "arm64", "arm"] | None = None
    labels: dict[str, Text] = Field(default={}, description="Node labels of the inventory (k3s_node_labels).")
    hosts: list[str] = Field(default=[], description="Hosts or groups by the inventory's names.")
    replicas: Annotated[int, Field(ge=1)] | Literal["each"] = Field(
        default="each", description="One on each host that fits, or so many, spread over zones and hosts.")


class Limits(_Model):
    """What ends a run, or holds it back. What is not given has the defaults shown; null lifts a limit."""

    memory: Size | None = Field(default=128 << 20, description="Bytes; the kernel ends what takes more.")
    cpu: Annotated[float, Field(gt=0)] | None = Field(default=None, description="Cores, such as 0.5; holds back.")
    time: Seconds | None = Field(default=None, description="Seconds of a run; jobs and schedules only.")
    output: Size | None = Field(default=64 << 20, description="Bytes of both streams of a run; not of services.")
    open_files: Annotated[int, Field(ge=16)] = 256
    file_size: Size | None = Field(default=64 << 20, description="Bytes of the largest file that it may write.")
    disk: Size | None = Field(
        default=256 << 20, description="Bytes that its writable directories may hold, 4 KiB a file at least.")
    processes: Annotated[int, Field(
        ge=1)] = Field(default=64, description="Processes and threads, the runtime's own included.")


class ServicePort(_Model):
    """A TCP port of the host on which a service answers. It listens all the while its revisions are replaced."""

    port: Port
    protocol: Literal["tcp", "http"] | None = Field(
        default=None, description="http: connections that are kept open are handed over between two requests; tcp: "
        "they stay with the revision that they came to. Default: http for a wasi:http handler, else tcp.")
    target: Port | None = Field(
        default=None, description="Of kind container: the port on which its program listens. Default: the same.")


class Http(_Model):
    """Answers this request with a status below 400."""

    port: Port
    path: str = Field(default="/", pattern=r"^/")


class Readiness(_Model):
    """When it counts as ready: exactly one of tcp, http and line. Without any: when it has run for a second."""

    tcp: Port | None = Field(default=None, description="Something listens on this port.")
    http: Http | None = None
    line: str | None = Field(default=None, description="Regular expression that a line of its output matches.")
    timeout: Seconds = Field(default=30.0, description="Seconds until a start counts as failed.")

    @field_validator("line")
    @classmethod
    def _regular(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"no regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(one is not None for one in (self.tcp, self.http, self.line)) != 1:
            raise ValueError("name one of tcp, http and line")
        return self


class Schedule(_Model):
    """When it runs."""

    cron: str = Field(description="Minute, hour, day of month, month, day of week; or @hourly, @daily, ...")
    time_zone: str = Field(default="UTC", description="Name of the IANA database, such as Europe/Berlin.")
    missed: bool = Field(default=False, description="Run once after a time at which the host was off.")

    @field_validator("cron")
    @classmethod
    def _regular(cls, value: str) -> str:
        return clock.fields(value)

    @field_validator("time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        return clock.zone(value)


class Workload(_Model):
    """One workload. ``${NAME}`` and ``${NAME:-default}`` in any text are filled in at submission (-V, -E)."""

    name: str = Field(pattern=NAME, description="Lower case letters, digits and hyphens.")
    kind: Kind = Field(description="A job runs once, a service all the time, a schedule at its times; a container is a "
                       "service that is an OCI image.")
    module: str = Field(
        default="", description="Path (relative to this file) of a module, or of a folder with a workload.yaml, which "
        "is built; or oci://REGISTRY/REPOSITORY[:TAG|@sha256:DIGEST]; or sha256:DIGEST of what skerry image list or "
        "the hosts have. Needed, except for kind container.")
    image: str = Field(
        default="", description="Of kind container, which needs it: REGISTRY/REPOSITORY[:TAG|@sha256:DIGEST].")
    args: list[Text] = Field(default=[], description="Arguments after the module's own name.")
    env: dict[str, Text] = Field(default={}, description="The module's whole environment, beside its secrets.")
    secrets: dict[str, Secret] = Field(default={}, description="Values that stand in no file, unit or log.")
    stdin: str | None = Field(default=None, description="File of the controller given as standard input.")
    directories: list[Directory] = Field(default=[], description="Directories of the host that it may open.")
    files: list[ConfigFile] = Field(default=[], description="Files that travel with it.")
    placement: Placement = Placement()
    rung: Rung = Field(
        default="auto", description="auto takes the best that each host has; --dry-run says which and why.")
    network: bool = Field(default=False, description="May open connections and listen.")
    ports: Annotated[list[ServicePort], Field(max_length=9)] = Field(
        default=[], description="Ports of a service; the module finds its own, to listen on at 127.0.0.1, in PORT "
        "(of several: PORT_<port>).")
    user: str | None = Field(
        default=None, pattern=r"^\d{1,10}(:\d{1,10})?$", description="Of kind container: number of the user, and of "
        "the group, as which its program runs. Default: of its own, that nobody else on the host has.")
    scratch: list[GuestPath] = Field(
        default=[], description="Of kind container: directories in memory that it may write to, beside /tmp.")
    drain: Annotated[Seconds, Field(le=180)] = Field(
        default=30.0, description="Seconds for which a former revision's open connections may last.")
    limits: Limits = Limits()
    restart: Restart | None = Field(default=None, description="Default: always for services, else never.")
    readiness: Readiness | None = None
    schedule: Schedule | None = None

    @property
    def restarts(self) -> Restart:
        """The restart policy in force."""
        return self.restart or ("always" if self.lasts else "never")

    @property
    def lasts(self) -> bool:
        """Whether it runs all the time."""
        return self.kind in ("service", "container")

    @field_validator("env", "secrets")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not _VARIABLE.match(name):
                raise ValueError(f"{name!r} is no name of a variable")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.kind == "schedule") != (self.schedule is not None):
            raise ValueError("kind schedule has a schedule, no other kind has one")
        if self.limits.time is not None and self.lasts:
            raise ValueError("a service has no end: limits.time is for jobs and schedules")
        self._check_program()
        self._check_ports()
        if shared := set(self.env) & {name for name, one in self.secrets.items() if one.mount is None}:
            raise ValueError(f"{', '.join(sorted(shared))} is both in env and in secrets")
        return self

    def _check_program(self) -> None:
        if (self.kind == "container") != bool(self.image) or bool(self.image) == bool(self.module):
            raise ValueError("kind container has an image, every other kind a module")
        if self.image and self.rung == "process":
            raise ValueError("an image runs on the rungs container and pod")
        if not self.image and (self.user is not None or self.scratch or any(one.target for one in self.ports)):
            raise ValueError("user, scratch and the target of a port are for kind container")

    def _check_ports(self) -> None:
        numbers = [one.port for one in self.ports]
        if numbers and not self.lasts:
            raise ValueError("ports are for services")
        if len(set(numbers)) < len(numbers):
            raise ValueError("a port is named twice in ports")
        given = {"PORT", *(f"PORT_{number}" for number in numbers)} if numbers else set()
        if taken := given & {*self.env, *self.secrets}:
            raise ValueError(f"{', '.join(sorted(taken))} is set by ports")
        asked = self.readiness and (self.readiness.tcp or (self.readiness.http and self.readiness.http.port))
        if asked and asked not in numbers and (numbers or not self.network):
            raise ValueError(f"readiness asks for port {asked}, which is not in ports")


def is_digest(module: str) -> bool:
    """Whether a module is named by its digest."""
    return _DIGEST.fullmatch(module) is not None


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one document of a workload file."""
    found = Workload.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found, "title": "Skerry workload"}
