"""Rules on what runs workloads: handlers and their programs, images, containers that end, the Docker Engine."""

from __future__ import annotations

import re
from collections.abc import Iterator

from skerry.doctor.facts import Facts
from skerry.doctor.findings import Finding, short, some
from skerry.status.model import Container, Pod

#: Fields of a finding after its cause.
Rest = tuple[str, str, str, float, tuple[str, ...], tuple[tuple[str, str], ...]]
_IMAGE = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError",
          "RegistryUnavailable")  # fmt: skip
#: (words in a pull's failure, what they mean, what to do).
_PULL = (
    (r"not found|manifest unknown|NAME_UNKNOWN|does not exist", "the registry does not have it",
     "correct the name, or push it; on a site without internet: skerry mirror build"),
    (r"401|403|unauthori[sz]ed|denied|authentication", "the registry wants other credentials",
     "give them in k3s_registries (configs) or as an imagePullSecret"),
    (r"x509|certificate", "the registry's certificate is not trusted", "give its CA in k3s_registries (configs, tls)"),
    (r"no such host|server misbehaving|lookup .*(timeout|refused)", "the registry's name cannot be resolved",
     "see to the host's name servers; on a site without internet give a mirror in k3s_registries"),
    (r"connection refused|i/o timeout|no route|unreachable|deadline exceeded|EOF|reset",
     "the registry cannot be reached", "open the way to it, or give a mirror in k3s_registries (skerry mirror build)"),
    (r"never|NeverPull", "the node does not have it, and the pod forbids to pull it",
     "import it on the node (k3s_airgap_images), or change imagePullPolicy"),
)  # fmt: skip
_CONFIG = ("CreateContainerConfigError", "CreateContainerError")
_START = ("RunContainerError", "StartError", "ContainerCannotRun")
_NO_HANDLER = re.compile(r"no runtime for \"?(?P<name>[^\"\s]+?)\"? is configured")
_FORMAT = re.compile(r"exec format error", re.IGNORECASE)


def handlers(facts: Facts) -> Iterator[Finding]:
    """Programs behind containerd's handlers, and those that the role wasm_runtime proved: gone or broken."""
    for look in facts.known():
        recorded = look.part("basics").get("fact_file", {})
        proved = recorded.get("wasm_runtime", {}).get("handlers", {}) if recorded else {}
        told: set[str] = set()
        for name, one in look.part("handlers").items():
            if one.get("starts") or one.get("program") == "builtin":
                continue
            path = one.get("program") or one.get("binary") or f"the shim of {one.get('type')}"
            used = [pod for pod in facts.ill_pods() if _uses(facts, pod, name, facts.node_of(look))]
            gone = "no such file" in str(one.get("says")) or not one.get("program")
            told.add(path)
            what = f"{path}, which containerd's handler {name} starts on host {look.name},"
            rest = (
                f"skerry provision --limit {look.name} --tags wasm_runtime_install puts it back",
                look.name, facts.on(look.name, f"{path} --version"), 0.95 if used or name in proved else 0.9,
                (f"handler {name}: {one.get('says')}",
                 *(f"pod {pod.namespace}/{pod.name} wants it" for pod in used[:2])),
                _sandbox(look.name),
            )  # fmt: skip
            yield _program(what, gone, str(one.get("says")), rest)
        for name, one in look.part("programs").items():
            if not one.get("starts") and one.get("path") not in told:
                gone = one.get("says") == "no such file"
                what = f"the runtime {name} of host {look.name}, proved when it was provisioned,"
                rest = (
                    f"skerry provision --limit {look.name} --tags wasm_runtime_install puts it back",
                    look.name, facts.on(look.name, f"{one['path']} --version"), 0.93,
                    (f"{one['path']}: {one.get('says')}",), _sandbox(look.name),
                )  # fmt: skip
                yield _program(what, gone, str(one.get("says")), rest)


def _program(what: str, gone: bool, says: str, rest: Rest) -> Finding:
    """A program that is gone, or is there and does not run."""
    if gone:
        return Finding("RUNTIME_202", f"{what} is not there", *rest)
    return Finding("RUNTIME_201", f"{what} does not run: {short(says, 90)}", *rest)


def _sandbox(host: str) -> tuple[tuple[str, str], ...]:
    """What follows from a runtime that cannot start containers."""
    return (("RUNTIME_205", host), ("RUNTIME_203", host), ("RUNTIME_212", "*"), ("RUNTIME_209", "*"))


def _uses(facts: Facts, pod: Pod, handler: str, node: str) -> bool:
    if not pod.trouble or not pod.trouble.runtime_class or pod.node != node:
        return False
    return any(
        one.name == pod.trouble.runtime_class and one.fields["handler"] == handler
        for one in facts.things("runtimeclasses")
    )


def missing_handlers(facts: Facts) -> Iterator[Finding]:
    """Handlers that pods want and their node's containerd does not know, or that were recorded and are gone."""
    told: set[tuple[str, str]] = set()
    for event in facts.events("FailedCreatePodSandBox"):
        found = _NO_HANDLER.search(event.fields["message"])
        host = event.fields["host"]
        if not found or (host, found["name"]) in told:
            continue
        if facts.pending(event) is None:
            continue
        told.add((host, found["name"]))
        look = facts.host_of(host)
        where = look.name if look else host
        yield Finding(
            "RUNTIME_203",
            f"containerd on {where} has no handler {found['name']}, which pod {event.namespace}/{event.fields['about']}"
            " wants through its RuntimeClass",
            "skerry provision with --tags wasm_runtime_install, or keep such pods off the node with the RuntimeClass's"
            " nodeSelector: k3s makes RuntimeClasses whether or not a node can run them",
            where, facts.on(where, "grep -rn runtimes. /var/lib/rancher/k3s/agent/etc/containerd /etc/skerry"),
            0.95, (short(event.fields["message"]),), (("RUNTIME_205", where),),
        )  # fmt: skip
    for look in facts.known():
        facts_of_roles = look.part("basics").get("fact_file", {})
        names = {str(name) for name in (facts_of_roles.get("k3s") or {}).get("runtime_classes") or ()}
        names |= set((facts_of_roles.get("wasm_runtime") or {}).get("handlers") or ())
        present = look.part("handlers")
        lost = sorted(name for name in names if present and name not in present and (look.name, name) not in told)
        if lost:
            yield Finding(
                "RUNTIME_203",
                f"containerd on host {look.name} has lost its handler {some(lost)}, there when it was provisioned",
                f"skerry provision --limit {look.name} writes it again (a file in /etc/skerry/containerd)",
                look.name, facts.on(look.name, "ls -l /etc/skerry/containerd"), 0.9,
                (f"recorded: {some(lost)}; present: {some(sorted(present))}",), (("RUNTIME_205", look.name),),
            )  # fmt: skip


def sandboxes(facts: Facts) -> Iterator[Finding]:
    """Pods whose sandbox cannot be made, for any other reason."""
    seen: set[str] = set()
    for event in facts.events("FailedCreatePodSandBox", "FailedPodSandBoxStatus"):
        host = event.fields["host"]
        if host in seen or _NO_HANDLER.search(event.fields["message"]):
            continue
        if facts.pending(event) is None:
            continue
        seen.add(host)
        look = facts.host_of(host)
        words = event.fields["message"].rpartition("desc = ")[2]
        yield Finding(
            "RUNTIME_205",
            f"node {host} cannot make pods: {short(words, 140)}",
            "look at containerd's log on that host; skerry provision checks its runtime",
            look.name if look else host,
            facts.kubectl(f"-n {event.namespace} describe pod {event.fields['about']}"), 0.7,
            (short(event.fields["message"]),),
        )  # fmt: skip


def _containers(facts: Facts) -> Iterator[tuple[Pod, Container]]:
    for pod in facts.ill_pods():
        for one in pod.trouble.containers if pod.trouble else ():
            yield pod, one


def images(facts: Facts) -> Iterator[Finding]:
    """Images that cannot be had."""
    missing: dict[str, list[tuple[Pod, Container]]] = {}
    for pod, one in _containers(facts):
        if one.state == "waiting" and one.reason in _IMAGE:
            missing.setdefault(one.image, []).append((pod, one))
    for image, found in missing.items():
        text = " ".join(one.message for _, one in found)
        told = [event.fields["message"] for event in facts.events("Failed")]
        text += " ".join(words for words in told if image in words)
        means, remedy = "it cannot be pulled", "see what the pull says; on a site without internet: skerry mirror build"
        for pattern, said, todo in _PULL:
            if re.search(pattern, text):
                means, remedy = said, todo
                break
        pods = [f"{pod.namespace}/{pod.name}" for pod, _ in found]
        pod = found[0][0]
        yield Finding(
            "RUNTIME_204",
            f"image {image} is missing for {some(pods, 2)}: {means}",
            remedy, image, facts.kubectl(f"-n {pod.namespace} describe pod {pod.name}"), 0.9,
            (short(f"{found[0][1].reason}: {found[0][1].message}"), f"on {some(pod.node for pod, _ in found)}"),
            facts.after(*(pod for pod, _ in found)),
        )  # fmt: skip


def ending(facts: Facts) -> Iterator[Finding]:
    """Containers that end again and again, are killed for memory, or cannot start."""
    for pod, one in _containers(facts):
        name = f"{pod.namespace}/{pod.name}"
        logs = facts.kubectl(f"-n {pod.namespace} logs {pod.name} -c {one.name} --previous")
        describe = facts.kubectl(f"-n {pod.namespace} describe pod {pod.name}")
        words = f"{one.reason} {one.message}"
        broken = facts.after(pod)
        if _FORMAT.search(words):
            yield Finding(
                "RUNTIME_211", f"pod {name} has a program for another architecture than that of node {pod.node}",
                "build the image for that architecture too, or keep the pod to its own with kubernetes.io/arch",
                name, describe, 0.94, (short(words),), broken,
            )  # fmt: skip
        elif "OOMKilled" in (one.reason, one.last_reason) and (one.restarts or one.state == "terminated"):
            yield Finding(
                "RUNTIME_210", f"container {one.name} of pod {name} is killed for want of memory",
                "raise resources.limits.memory, or make the program use less",
                name, facts.kubectl(f"-n {pod.namespace} get pod {pod.name} -o yaml"), 0.88,
                (f"{one.restarts} restarts, last ended OOMKilled",), broken,
            )  # fmt: skip
        elif one.reason in _CONFIG and one.state == "waiting":
            yield Finding(
                "CLUSTER_240", f"pod {name} cannot start: {short(one.message or one.reason, 120)}",
                "create the ConfigMap, Secret or key that it names", name, describe, 0.9, (short(words),), broken,
            )  # fmt: skip
        elif one.reason in _START or (one.last_reason in _START and one.state == "waiting"):
            yield Finding(
                "RUNTIME_212",
                f"container {one.name} of pod {name} cannot be started: {short(one.message or one.last_reason, 120)}",
                "correct its command, or the runtime that its RuntimeClass names", name, describe, 0.85,
                (short(words),), broken,
            )  # fmt: skip
        elif one.reason == "CrashLoopBackOff":
            code = one.last_exit_code
            illegal = code == 132
            yield Finding(
                "RUNTIME_209",
                f"container {one.name} of pod {name} ends again and again with exit code {code}"
                + (": the processor lacks instructions that it uses (SSE4.2 for Redpanda)" if illegal else ""),
                "look at what it said last" if not illegal else "move it to a node whose processor has them",
                name, logs, 0.8, (f"{one.restarts} restarts, last exit code {code} ({one.last_reason})",), broken,
            )  # fmt: skip


def docker(facts: Facts) -> Iterator[Finding]:
    """The Docker Engine of a host that should have one."""
    for look in facts.known():
        engine, unit = look.report.get("docker"), look.part("units").get("docker", {})
        recorded = look.part("basics").get("fact_file", {}).get("docker")
        if not engine:
            if recorded and "docker" in look.report:
                yield Finding(
                    "RUNTIME_207", f"Docker was installed on host {look.name} and is gone",
                    f"skerry provision --limit {look.name}", look.name,
                    facts.on(look.name, "docker version"), 0.85, ("the fact file names it",),
                )  # fmt: skip
            continue
        if engine.get("config_error"):
            yield Finding(
                "RUNTIME_208",
                f"Docker's settings on host {look.name} cannot be read: {short(engine['config_error'], 120)}",
                f"skerry provision --limit {look.name} writes them again", look.name,
                facts.on(look.name, "dockerd --validate"), 0.95, (), (("RUNTIME_207", look.name),),
            )  # fmt: skip
        if not engine.get("answers") and (recorded or unit.get("UnitFileState") == "enabled"):
            state = unit.get("ActiveState", "not there")
            words = "is stopped" if state == "inactive" else f"does not answer (unit {state})"
            yield Finding(
                "RUNTIME_207", f"Docker on host {look.name} {words}",
                "start it: systemctl start docker; journalctl -u docker says why it ended", look.name,
                facts.on(look.name, "systemctl status docker --no-pager"), 0.93 if recorded else 0.85,
                (f"/run/docker.sock: {engine.get('error') or 'no answer'}", f"unit docker: {state}"),
            )  # fmt: skip
        for one in engine.get("runtimes") or []:
            if not one.get("starts"):
                yield Finding(
                    "RUNTIME_201",
                    f"Docker's runtime {one['name']} on host {look.name} does not run: {one['path']}: {one['says']}",
                    f"skerry provision --limit {look.name} puts it back", look.name,
                    facts.on(look.name, f"{one['path']} --version"), 0.88, (f"{one['path']}: {one['says']}",),
                )  # fmt: skip


RULES = (handlers, missing_handlers, sandboxes, images, ending, docker)
