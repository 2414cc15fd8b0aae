"""A k3s pod on this very node: the module through a RuntimeClass, the native control through the same one where its
runtime is crun (which runs both), and through runc otherwise.

The pod is made through the API, with a token that reaches one namespace made for this session. What happens to it is
observed on the node: containerd's events, the container's log, the pod's control group.
"""

from __future__ import annotations

import json
import os
import re
import select
import time
from pathlib import Path
from typing import Any

from .. import ctr
from .. import memory as sizes
from ..cgroups import KILLED, full
from ..crilog import CriLog, to_monotonic
from ..faults import ProbeError
from ..hostinfo import find_command
from ..kube import Attachment, Kube, KubeError, context
from ..podgroup import PodGroup
from ..procs import CHUNK, Take
from ..usage import Usage
from .base import Host, Result, Rung, Slot, Spec, capability
from .container import ANNOTATION, EXIT_CODE_NOTE, drops_exit_codes, judge
from .words import Tail, Words

LABEL = "dev.skerry.session"
_USED = "pod.json"
_WATCHER = "containerd's events"
_CONTAINER = "main"
#: Seconds that a pod may take until its container starts, and that a killed or deleted one may live on.
START_SECONDS = 90
KILL_SECONDS = 30
GONE_SECONDS = 20
_HOPELESS = (
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "InvalidImageName",
    "ImageInspectError",
)


def handlers(host: Host) -> dict[str, tuple[str, str, str]]:
    """engine -> (RuntimeClass, engine's version, runtime and its version), from what the roles proved here."""
    classes = (host.section("k3s") or {}).get("runtime_classes") or []
    wasm = host.section("wasm_runtime") or {}
    found: dict[str, tuple[str, str, str]] = {}
    for name, about in sorted((wasm.get("handlers") or {}).items()):
        entry = (wasm.get("runtimes") or {}).get(about.get("runtime")) or {}
        if name in classes and entry.get("proved") and about.get("engine") not in found:
            version = str(entry.get("engine_version") or entry.get("version") or "")
            found[about["engine"]] = (name, version, f"{about['runtime']} {entry.get('version', '')}".strip())
    return found


def control(host: Host, k3s: str) -> tuple[str | None, str]:
    """(RuntimeClass of the native control, what starts it): wasm and native shall differ in one thing."""
    for name, _, runtime in handlers(host).values():
        if runtime.startswith("crun"):
            return name, f"k3s {k3s} {name} ({runtime})"
    return None, f"k3s {k3s} runc".strip()


class _Run:
    """One pod from its creation to its end."""

    def __init__(self, slot: _PodSlot, take: Take, memory: bool, name: str) -> None:
        self.slot, self.memory, self.name = slot, memory, name
        self.take = take
        self.seen = 0
        self.result = Result()
        self.group = PodGroup()
        self.pss = 0
        self.container = ""
        self.log: CriLog | None = None
        self.stdin: Attachment | None = None
        self.times: dict[str, int] = {}
        self.status: int | None = None
        self.killed = 0.0
        self.looked = 0.0
        self.usage = Usage(slot.spec.open_files, slot.spec.disk)
        self.used = 0.0

    def go(self) -> Result:
        slot, result = self.slot, self.result
        base = f"/api/v1/namespaces/{slot.namespace}/pods"
        body = slot.body(self.name)
        slot.events.read()
        result.started_ns = time.monotonic_ns()
        try:
            made = slot.kube.request("POST", base, "create the pod", body)
            self.times["create"] = time.monotonic_ns()
            uid = made["metadata"]["uid"]
            self.group.uid = uid
            where = f"{slot.namespace}_{self.name}_{uid}"
            self.log = CriLog(Path("/var/log/pods", where, _CONTAINER, "0.log"), self._output)
            self._watch()
            self.log.read()
            self._account()
        finally:
            if self.stdin is not None:
                self.stdin.close()
            if self.log is not None:
                self.log.close()
            slot.remove(self.name)
        return result

    def _output(self, stream: str, data: bytes) -> None:
        limit = self.slot.spec.output_limit
        room = len(data) if limit is None else max(0, limit - self.seen)
        self.seen += len(data)
        if data[:room]:
            self.take(stream, data[:room])

    def _watch(self) -> None:
        """Until the runtime has put the container away: then all of its output is in the log."""
        while "delete" not in self.times:
            running = "start" in self.times and "exit" not in self.times
            tick = (0.002 if self.memory else 0.005) if running else 0.02
            select.select([self.slot.events.fd], [], [], tick)
            for event in self.slot.events.read():
                self._event(event)
            if running:
                self.group.look()
            if self.log is not None and not self.slot.stays:
                self.log.read()
            self._look()

    def _event(self, event: ctr.Event) -> None:
        body = event.body
        if event.topic == "/containers/create" and body.get("image") == self.slot.tag and not self.container:
            self.container = body["id"]
            self.times["made"] = event.at_ns
            return
        if not self.container or self.container not in (body.get("container_id"), body.get("id")):
            return
        if event.topic == "/tasks/start":
            self.times["start"] = event.at_ns
            self.group.find()
            self.group.of_process(int(body.get("pid") or 0), self.container)
            self._send_input()
        elif event.topic == "/tasks/oom":
            self.result.limit = self.result.limit or "memory"
        elif event.topic == "/tasks/exit" and body.get("id", self.container) == self.container:
            self.status = int(body.get("exit_status") or 0)
            at = body.get("exited_at")
            self.times["exit"] = to_monotonic(_stamp(at)) if at else event.at_ns
            self.group.last_look()
        elif event.topic == "/tasks/delete":
            self.times["delete"] = event.at_ns

    def _send_input(self) -> None:
        slot = self.slot
        if slot.spec.stdin is None:
            return
        self.stdin = slot.kube.attach(slot.namespace, self.name, _CONTAINER)
        source = slot.stdin()
        try:
            while data := os.read(source, CHUNK):
                self.stdin.send(data)
            self.stdin.end()
        except OSError:  # the program has ended without reading it all
            self.stdin.close()
            self.stdin = None
        finally:
            os.close(source)

    def _look(self) -> None:
        now, spec, result = time.monotonic(), self.slot.spec, self.result
        if self.memory and "start" in self.times and "exit" not in self.times:
            self.pss = max(self.pss, sizes.total(self.group.pids()))
        begun = result.started_ns / 1e9
        if self.killed:
            if now - self.killed > KILL_SECONDS:
                raise ProbeError(
                    "RUN_024",
                    f"the pod lives {KILL_SECONDS} s after it was deleted",
                    "journalctl -u k3s (or k3s-agent) on the host says why",
                )
            return
        if "start" not in self.times:
            self._look_for_trouble(now, begun)
            return
        if "exit" in self.times:
            return
        if spec.output_limit is not None and self.seen > spec.output_limit:
            result.limit = "output"
        elif spec.timeout is not None and now - self.times["start"] / 1e9 > spec.timeout:
            result.limit = "timeout"
        elif self.usage.watched and now - self.used > self.usage.tick:
            self.used, result.limit = now, self.usage.met(self.group.pids())
        if result.limit is not None:
            self.killed = now
            self.slot.kube.delete(f"/api/v1/namespaces/{self.slot.namespace}/pods/{self.name}", "delete the pod")

    def _status(self) -> dict[str, Any]:
        path = f"/api/v1/namespaces/{self.slot.namespace}/pods/{self.name}"
        found: dict[str, Any] = self.slot.kube.request("GET", path, "read the pod").get("status", {})
        return found

    def _look_for_trouble(self, now: float, begun: float) -> None:
        """A pod that will never start says so in its status."""
        if now - self.looked < 1:
            return
        self.looked = now
        status = self._status()
        said = ""
        for container in status.get("containerStatuses") or []:
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") in _HOPELESS:
                said = f"{waiting['reason']}: {waiting.get('message', '')}"
            over = (container.get("state") or {}).get("terminated") or {}
            if over.get("reason") in ("StartError", "ContainerCannotRun"):
                said = f"{over['reason']}: {over.get('message', '')}"
        conditions = {entry["type"]: entry for entry in status.get("conditions") or []}
        scheduled = conditions.get("PodScheduled", {})
        if scheduled.get("reason") == "Unschedulable" and now - begun > 5:
            said = f"no room on the node: {scheduled.get('message', '')}"
        if not said and now - begun > START_SECONDS:
            said = f"its container did not start within {START_SECONDS} s ({status.get('phase')}): {self._warning()}"
        if said:
            raise ProbeError("RUN_024", f"the pod cannot run: {said[:400]}", "kubectl describe of a like pod says more")

    def _warning(self) -> str:
        """The cluster's last warning about this pod."""
        path = f"/api/v1/namespaces/{self.slot.namespace}/events"
        events = self.slot.kube.request("GET", path, "list events").get("items", [])
        mine = [
            e for e in events if e.get("involvedObject", {}).get("name") == self.name and e.get("type") == "Warning"
        ]
        return str(mine[-1].get("message", "")) if mine else "no warning was recorded"

    def _out_of_memory(self) -> bool:
        """Whether the kill was the kernel's: the kubelet says so, or the peak reached the limit."""
        if full(self.group.peak, self.slot.spec.memory):
            return True
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            status = self._status()
            for container in status.get("containerStatuses") or []:
                over = (container.get("state") or {}).get("terminated")
                if over:
                    return bool(over.get("reason") == "OOMKilled")
            time.sleep(0.2)
        return False

    def _evicted(self) -> bool:
        """Whether the kubelet took the pod away because the node ran short of memory.

        Raises:
            ProbeError: RUN_024 when it was short of something else.
        """
        status = self._status()
        if status.get("reason") != "Evicted":
            return False
        said = str(status.get("message", ""))
        if "resource: memory" not in said:
            raise ProbeError("RUN_024", f"the kubelet evicted the pod: {said[:300]}", "make room on the node")
        return True

    def _account(self) -> None:
        result, times = self.result, self.times
        go = result.started_ns
        end = times.get("exit", times["delete"])
        first = min(self.log.first_ns or end, end) if self.log is not None else end
        start = min(times.get("start", end), end)
        result.cold_seconds, result.seconds = (first - go) / 1e9, (end - go) / 1e9
        result.phases = {
            "create": (times["create"] - go) / 1e9,
            "start": (start - times["create"]) / 1e9,
            "first_byte": max(0, first - start) / 1e9,
            "exit": max(0, end - max(first, start)) / 1e9,
        }
        if result.limit is None and self.status == KILLED and self._out_of_memory():
            result.limit = "memory"
        if result.limit is None and self._evicted():
            result.limit = "memory"
        if result.limit is None:
            result.exit_code = self.status
        result.pss_bytes = self.pss or None
        result.cgroup_peak_bytes = self.group.peak
        if self.group.oom_kills and result.limit is None:
            result.limit, result.exit_code = "memory", None
        for value, source in ((result.cgroup_peak_bytes, "cgroup"), (result.pss_bytes, "pss")):
            if value and result.memory_bytes is None:
                result.memory_bytes, result.memory_source = value, source


def _stamp(at: Any) -> int:
    """``exited_at``: RFC 3339 text, or seconds and nanos."""
    if isinstance(at, dict):
        return int(at.get("seconds", 0)) * 1_000_000_000 + int(at.get("nanos", 0))
    from ..crilog import nanoseconds

    return nanoseconds(str(at))


class _PodSlot(Slot):
    def __init__(self, host: Host, spec: Spec) -> None:
        super().__init__(host, spec)
        k3s = find_command("k3s")
        place = spec.placement
        if k3s is None or not place:
            raise ProbeError("RUN_015", "this host is no node of a cluster that is known here", "run the role k3s")
        self.k3s, self.namespace = k3s, place["namespace"]
        self.kube = Kube(place["server"], context(place["ca"]), place["token"])
        note = host.work / _USED
        if not note.exists():
            note.touch(0o600)
            note.write_text(json.dumps(place))
        self.runs = 0
        self.node = str((host.section("k3s") or {}).get("node") or os.uname().nodename)
        self.wasm = spec.engine != "native"
        self.handler = handlers(host)[spec.engine][0] if self.wasm else control(host, "")[0]
        self.name = re.sub(r"[^A-Za-z0-9_.-]", "_", spec.name) or "program"
        self.tag = f"skerry.local/run-{host.session}:{os.getpid()}"
        data, image = self.packed(self.tag, self.name, {LABEL: host.session})
        crun = self.wasm and handlers(host)[spec.engine][2].startswith("crun")
        self.may_exit = b"\x09proc_exit" in data and crun and drops_exit_codes(host)
        archive = self.directory / "image.tar"
        archive.write_bytes(image)
        ctr.run(k3s, "images", "import", str(archive))
        archive.unlink()
        self.events = ctr.Events(host.shared[_WATCHER])

    def body(self, name: str) -> dict[str, Any]:
        """The pod that the API is asked for."""
        spec = self.spec
        env = [{"name": k, "value": v} for k, v in spec.env]
        plain = not any(k == "PATH" for k, _ in spec.env)
        container: dict[str, Any] = {
            "name": _CONTAINER,
            "image": self.tag,
            "imagePullPolicy": "Never",
            "command": [self.name if plain else "/" + self.name],
            "args": spec.args,
            "env": ([{"name": "PATH", "value": "/"}] if plain else []) + env,
            "stdin": spec.stdin is not None,
            "stdinOnce": spec.stdin is not None,
            "volumeMounts": [{"name": f"d{i}", "mountPath": guest} for i, (_, guest) in enumerate(self.dirs)],
        }
        if spec.memory is not None and spec.memory < (1 << 50):
            container["resources"] = {"limits": {"memory": str(spec.memory)}, "requests": {"memory": "1Mi"}}
        node = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [self.node]}]}
        wanted = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [node]}}
        pod: dict[str, Any] = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "dnsPolicy": "Default",
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": wanted},
            "containers": [container],
            "volumes": [
                {"name": f"d{i}", "hostPath": {"path": path, "type": "Directory"}}
                for i, (path, _) in enumerate(self.dirs)
            ],
        }
        metadata: dict[str, Any] = {"name": name, "labels": {LABEL: self.host.session}}
        if self.handler is not None:
            pod["runtimeClassName"] = self.handler
        if self.wasm:
            metadata["annotations"] = ANNOTATION
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}

    def remove(self, name: str) -> None:
        """Delete a pod. Between samples it is waited for: one deleted without force stays in the API until the kubelet
        has put it away, and would disturb the next."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}"
        self.kube.delete(path, "delete the pod", grace=1 if self.stays else 0)
        deadline = time.monotonic() + GONE_SECONDS
        while self.stays and time.monotonic() < deadline:
            try:
                self.kube.request("GET", path, "look for the pod")
            except KubeError as error:
                if error.status == 404:
                    return
                raise
            time.sleep(0.1)

    def once(self, take: Take, memory: bool) -> Result:
        """See `Slot.once`."""
        self.runs += 1
        wasm = self.wasm
        words = Words(take) if wasm else None
        tail = Tail(words or take)
        result = _Run(self, tail, memory, f"run-{os.getpid()}-{self.runs}").go()
        said = words.finish(bool(result.exit_code)) if words else ""
        judge(result, wasm, said, tail.text)
        if wasm and self.may_exit and result.exit_code == 0:
            result.note = EXIT_CODE_NOTE
        return result

    def close(self) -> None:
        """See `Slot.close`."""
        self.events.close()
        ctr.run(self.k3s, "images", "rm", self.tag)
        super().close()


class Pod(Rung):
    """Needs the roles k3s and wasm_runtime, and the cluster's kubeconfig on the controller (it adds that reason)."""

    name = "pod"

    def capabilities(self, host: Host) -> list[dict[str, Any]]:
        """See `Rung.capabilities`."""
        section = host.section("k3s")
        reason = None
        if section is None:
            reason = "the role k3s did not run on this host"
        elif not section.get("node"):
            reason = "this host is no k3s node: " + str(section.get("reason") or "the role k3s left it out")
        elif find_command("k3s") is None:
            reason = "the command k3s is not there"
        elif not host.facts["root"]:
            reason = "only root can speak to k3s's containerd"
        version = str((section or {}).get("version") or "")
        cluster = str((section or {}).get("cluster") or "")
        through = control(host, version)[1]
        found = [capability(self.name, "native", "", "native", reason, via=through, cluster=cluster)]
        engines = handlers(host)
        if not engines:
            lacking = reason or "no RuntimeClass on this node was proved to run wasm"
            return [*found, capability(self.name, "wasmedge", "", "interpreter", lacking, cluster=cluster)]
        for engine, (name, engine_version, runtime) in engines.items():
            mode = "interpreter" if engine == "wasmedge" else "jit"
            via = f"k3s {version} {name} ({runtime})"
            found.append(capability(self.name, engine, engine_version, mode, reason, via=via, cluster=cluster))
        return found

    def share(self, host: Host) -> None:
        """See `Rung.share`: the one watcher of containerd's events."""
        k3s, watcher = find_command("k3s"), host.shared.get(_WATCHER)
        if k3s is not None and (watcher is None or not watcher.alive()):
            host.shared[_WATCHER] = ctr.Watcher(k3s, host.work)

    def open(self, host: Host, spec: Spec) -> Slot:
        """See `Rung.open`."""
        return _PodSlot(host, spec)

    def sweep(self, session: str, work: Path) -> None:
        """See `Rung.sweep`."""
        note = work / _USED
        if not note.exists():
            return
        text = note.read_text()
        if text:
            place = json.loads(text)
            kube = Kube(place["server"], context(place["ca"]), place["token"], timeout=10)
            path = f"/api/v1/namespaces/{place['namespace']}"
            try:
                kube.request("DELETE", path + "/pods", "delete the pods", {"gracePeriodSeconds": 0})
            except KubeError as error:
                if error.status not in (403, 404):  # the namespace is gone already, and the token with it
                    raise
            try:
                kube.delete(path, "delete the namespace")
            except KubeError as error:
                if error.status not in (401, 403):
                    raise
        k3s = find_command("k3s")
        if k3s is not None:
            for name in ctr.run(k3s, "images", "ls", "-q").splitlines():
                if name.startswith(f"skerry.local/run-{session}:"):
                    ctr.run(k3s, "images", "rm", name)
