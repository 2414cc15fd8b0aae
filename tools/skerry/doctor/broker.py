"""Rules on the broker, Redpanda: whether it runs, whether clients get to it, what it says when it gives up."""

from __future__ import annotations

import re
from collections.abc import Iterator

from skerry.doctor.facts import Facts
from skerry.doctor.findings import Finding, Known, meaning, short
from skerry.status.model import Pod, Workload

#: A broker's own words at its end.
_WORDS = (
    Known("BROKER_205", r"[Aa]sync I/O|aio-max-nr|io_setup", "the node has no asynchronous I/O left",
          "raise fs.aio-max-nr to 1048576 there (the role host_tuning does it)"),
    Known("BROKER_204", r"sse4_2|SSE4\.2|Illegal instruction", "the node's processor lacks SSE4.2",
          "move it to another node with redpanda's nodeSelector"),
    Known("BROKER_206", r"insufficient physical memory|could not allocate|std::bad_alloc|Failed to allocate",
          "it has too little memory", "give it more (redpanda_memory_mb), or a larger node"),
    Known("STORAGE_219", r"[Nn]o space left|disk.*full", "its disk is full",
          "enlarge its volume, or shorten the retention"),
)  # fmt: skip
_UNKNOWN = Known("", "", "", "")


def _brokers(facts: Facts) -> list[Workload]:
    return [
        one for one in facts.workloads()
        if one.kind == "StatefulSet" and "redpanda" in (one.labels.get("app.kubernetes.io/name"), one.name)
    ]


def _pods(facts: Facts, one: Workload) -> list[Pod]:
    pattern = re.compile(re.escape(one.name) + r"-\d+")
    return [pod for pod in facts.ill_pods() if pod.namespace == one.namespace and pattern.fullmatch(pod.name)]


def running(facts: Facts) -> Iterator[Finding]:
    """Brokers that do not run."""
    for one in _brokers(facts):
        if one.ready >= one.desired and one.desired > 0:
            continue
        pods = _pods(facts, one)
        name = f"{one.namespace}/{one.name}"
        if one.desired == 0:
            yield Finding(
                "BROKER_203", f"the broker {name} is scaled to nothing: no client is served",
                f"kubectl -n {one.namespace} scale statefulset {one.name} --replicas 1 (or as many as there were)",
                name, facts.kubectl(f"-n {one.namespace} get statefulset {one.name}"), 0.95, ("0 of 0 brokers run",),
                (("BROKER_207", name),),
            )  # fmt: skip
            continue
        none = one.ready == 0
        said = [f"pod {pod.name}: {pod.status}" + (f" on {pod.node}" if pod.node else "") for pod in pods[:3]]
        rest = (
            "see what its pods lack and what they said last", name,
            facts.kubectl(f"-n {one.namespace} get statefulset,pods -o wide"), 0.82 if none else 0.7,
            (f"{one.ready}/{one.desired} ready", *said), (("BROKER_207", name),),
        )  # fmt: skip
        lost = one.desired - one.ready
        yield (
            Finding("BROKER_201", f"the broker {name} does not run", *rest)
            if none
            else Finding("BROKER_202", f"{lost} of {one.desired} brokers of {name} do not run", *rest)
        )


def words(facts: Facts) -> Iterator[Finding]:
    """What a broker said when it ended."""
    for one in _brokers(facts):
        for pod in _pods(facts, one):
            containers = pod.trouble.containers if pod.trouble else ()
            text = " ".join(f"{found.message} {found.last_reason}" for found in containers)
            known = meaning(_WORDS, text, _UNKNOWN)
            if known is not _UNKNOWN:
                name = f"{pod.namespace}/{pod.name}"
                yield Finding(
                    known.code, f"broker {name} ends: {known.cause}", known.remedy, name,
                    facts.kubectl(f"-n {pod.namespace} logs {pod.name} -c redpanda --previous --tail 30"), 0.9,
                    (short(text),), facts.after(pod),
                )  # fmt: skip


def reached(facts: Facts) -> Iterator[Finding]:
    """Brokers that run while their service has nobody behind it."""
    for one in _brokers(facts):
        ready = facts.ready_endpoints(one.namespace, one.name)
        if one.ready > 0 and ready == 0:
            yield Finding(
                "BROKER_207", f"the broker {one.namespace}/{one.name} runs, and its service leads nowhere",
                "compare the service's selector with the pods' labels", f"{one.namespace}/{one.name}",
                facts.kubectl(f"-n {one.namespace} get service,endpointslices"), 0.8,
                (f"{one.ready} pods, no endpoint",),
            )  # fmt: skip


RULES = (running, words, reached)
