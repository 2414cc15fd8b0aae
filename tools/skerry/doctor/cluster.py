"""Rules on the cluster's objects: nodes, scheduling, admission, cluster DNS, charts, certificates."""

from __future__ import annotations

import re
from collections.abc import Iterator

from skerry.doctor.facts import OF_WORKLOADS, Facts
from skerry.doctor.findings import Finding, Known, meaning, short, some
from skerry.status.model import Pod

#: Conditions of a node that should not be.
_PRESSURE = (
    Known("CLUSTER_231", "MemoryPressure", "it is short of memory",
          "move pods away (kubectl drain), give them limits, or give the host more memory"),
    Known("STORAGE_204", "DiskPressure", "its disk is nearly full",
          "make room on the node's disk: old images (k3s crictl rmi --prune), logs"),
    Known("CLUSTER_232", "PIDPressure", "it has nearly no process numbers left",
          "find what makes so many processes; raise kernel.pid_max"),
    Known("CLUSTER_233", "NetworkUnavailable", "its network is not set up",
          "look at flannel's words in k3s's journal on that host"),
)  # fmt: skip
_ILL = Known("CLUSTER_258", "", "it reports trouble", "look at what the node says of itself")


def nodes(facts: Facts) -> Iterator[Finding]:
    """Nodes that are not Ready, are under pressure, or are kept free."""
    for node in facts.nodes():
        ready = node.conditions.get("Ready")
        describe = facts.kubectl(f"describe node {node.name}")
        if node.ready != "True":
            said = short(ready.message if ready else "the kubelet has not reported yet", 140)
            silent = node.ready == "Unknown"
            minutes = (facts.now - ready.since) / 60 if ready and ready.since else 0
            yield Finding(
                "CLUSTER_230",
                f"node {node.name} is not Ready: " + ("its kubelet is silent" if silent else said),
                "look at k3s on that host: systemctl status k3s-agent; is it on, and can it reach the server?",
                node.name, describe, 0.6, (f"Ready is {node.ready} for {minutes:.0f} min: {said}",),
                facts.after_node(node.name),
            )  # fmt: skip
        for name in node.trouble:
            known = meaning(_PRESSURE, name, _ILL)
            one = node.conditions[name]
            yield Finding(
                known.code, f"node {node.name} has {name}: {short(one.message, 120) or known.cause}",
                known.remedy, node.name, describe,
                0.88 if node.ready == "True" else 0.65, (f"{one.reason}: {short(one.message)}",),
                (("CLUSTER_236", "*"), ("CLUSTER_235", "*"), ("RUNTIME_213", node.name)),
            )  # fmt: skip
    waiting = [pod for pod in facts.ill_pods() if pod.phase == "Pending" and not pod.node]
    for node in facts.nodes():
        if node.unschedulable and waiting:
            yield Finding(
                "CLUSTER_238", f"node {node.name} is cordoned, and {len(waiting)} pods wait for a node",
                f"kubectl uncordon {node.name}, when the work on it is done", node.name,
                facts.kubectl("get nodes"), 0.5, (), (("CLUSTER_236", "*"),),
            )  # fmt: skip


def evicted(facts: Facts) -> Iterator[Finding]:
    """Pods that a kubelet put out."""
    hosts: dict[str, list[Pod]] = {}
    for pod in facts.ill_pods():
        if pod.status == "Evicted":
            hosts.setdefault(pod.node, []).append(pod)
    for node, pods in hosts.items():
        said = pods[0].trouble.message if pods[0].trouble else ""
        yield Finding(
            "RUNTIME_213", f"node {node} put {len(pods)} pods out: {short(said, 120)}",
            "free what the node lacks; kubectl delete pod removes what is left of them", node,
            facts.kubectl(f"get pods -A --field-selector spec.nodeName={node}"), 0.5, (some(pod.name for pod in pods),),
        )  # fmt: skip


#: Words of the scheduler, most telling first.
_SCHEDULING = (
    Known("CLUSTER_237", r"no nodes available", "there is no node at all", "see why the nodes are gone"),
    Known("STORAGE_205", r"unbound immediate Persistent|persistentvolumeclaim \S+ not found|find available persistent",
          "its volume is not there", "look at its PersistentVolumeClaims"),
    Known("CLUSTER_239", r"node affinity|node selector", "no node has the labels that it asks for",
          "correct its nodeSelector, or label a node (k3s_node_labels)"),
    Known("CLUSTER_235", r"Insufficient (?P<what>\S+)|Too many pods", "the nodes have no room for what it asks",
          "lower its requests, remove other pods, or add a node"),
    Known("CLUSTER_236", r"untolerated taint|were unschedulable", "every node that fits keeps it off (taint or cordon)",
          "give it a toleration, or take the taint away (kubectl uncordon; k3s_node_taints)"),
)  # fmt: skip
_REFUSED = Known("CLUSTER_234", "", "the scheduler refuses", "see what it says")


def scheduling(facts: Facts) -> Iterator[Finding]:
    """Pods that get no node."""
    groups: dict[Known, list[Pod]] = {}
    unseen: list[Pod] = []
    for pod in facts.ill_pods():
        if pod.phase != "Pending" or pod.node or not pod.trouble:
            continue
        if pod.trouble.scheduling:
            groups.setdefault(meaning(_SCHEDULING, pod.trouble.scheduling, _REFUSED), []).append(pod)
        elif facts.now - pod.trouble.created > 20:
            unseen.append(pod)
    for known, pods in groups.items():
        pod = pods[0]
        said = pod.trouble.scheduling if pod.trouble else ""
        names = some((f"{one.namespace}/{one.name}" for one in pods), 2)
        labels = [f"{key}={value}" for key, value in (pod.trouble.selector if pod.trouble else {}).items()]
        wanted = f" ({some(labels)})" if known.code == "CLUSTER_239" and labels else ""
        yield Finding(
            known.code, f"{names} cannot be placed: {known.cause}{wanted}", known.remedy,
            f"{pod.namespace}/{pod.name}",
            facts.kubectl(f"-n {pod.namespace} describe pod {pod.name}"), 0.86, (short(said),),
            facts.after(*pods),
        )  # fmt: skip
    if unseen:
        yield Finding(
            "CLUSTER_248",
            f"nobody places pods: {some((f'{pod.namespace}/{pod.name}' for pod in unseen), 2)} wait without a word",
            "the scheduler does not run: look at k3s on the servers (disable-scheduler?)",
            "", facts.kubectl("-n kube-system get lease kube-scheduler -o yaml"), 0.8,
            (f"{len(unseen)} pods are Pending for more than 20 s and no condition says why",),
        )  # fmt: skip


#: Words of a refusal.
_REFUSALS = (
    Known("CLUSTER_250", r"exceeded quota", "the namespace's quota is used up",
          "raise the ResourceQuota, or remove pods"),
    Known("CLUSTER_251", r"violates PodSecurity", "the namespace's Pod Security level forbids such pods",
          "make the pods obey it (runAsNonRoot, no privilege escalation, seccompProfile), or put them elsewhere"),
    Known("CLUSTER_252", r"(?:maximum|minimum) \S+ usage per|LimitRange|limits? to requests? ratio",
          "the namespace's LimitRange forbids such pods", "set requests and limits within it"),
    Known("CLUSTER_241", r"failed calling webhook|webhook.*(?:refused|timeout|no endpoints)",
          "a webhook that must agree does not answer", "see to the webhook's own pods"),
    Known("CLUSTER_253", r"denied the request", "an admission webhook forbids them", "see what it says"),
    Known("CLUSTER_254", r"serviceaccount \"?\S+\"? not found|error looking up service account",
          "their ServiceAccount is not there", "create it"),
)  # fmt: skip
_UNNAMED = Known("CLUSTER_255", "", "the API server refuses its pods", "see what it says")


def refused(facts: Facts) -> Iterator[Finding]:
    """Workloads whose pods the API server does not take."""
    said: dict[tuple[str, str], str] = {}
    for one in facts.workloads():
        if one.failure:
            said[one.namespace, one.name] = one.failure
    short_of = {(one.namespace, one.name): one.created for one in facts.workloads() if not one.healthy}
    for event in facts.events("FailedCreate"):
        about, last = str(event.fields["about"]), event.fields["last"]
        owner = next(
            (key for key, created in short_of.items()  # an earlier one of that name may have been refused
             if key[0] == event.namespace and about.startswith(key[1]) and last >= created),
            None,
        )  # fmt: skip
        if owner or event.fields["kind"] == "Job":
            said.setdefault(owner or (event.namespace, about), event.fields["message"])
    for (namespace, name), words in said.items():
        known = meaning(_REFUSALS, words, _UNNAMED)
        hook = re.search(r"webhook \"([^\"]+)\"", words)
        yield Finding(
            known.code, f"{namespace}/{name} gets no pods: {known.cause}" + (f" ({hook[1]})" if hook else ""),
            known.remedy, f"{namespace}/{name}" if known.code != "CLUSTER_241" or not hook else hook[1],
            facts.kubectl(f"-n {namespace} get events --field-selector reason=FailedCreate"), 0.9, (short(words),),
            tuple((follow, f"{namespace}/{name}") for follow in OF_WORKLOADS),
        )  # fmt: skip
    silent = [
        f"{one.namespace}/{one.name}" for one in facts.workloads()
        if one.ready < one.desired and not one.made and facts.now - one.created > 20
        and (one.namespace, one.name) not in said
    ]  # fmt: skip
    if silent:
        yield Finding(
            "CLUSTER_249", f"nobody makes pods: {some(silent, 2)} wait for theirs without a word",
            "the controller manager hangs or does not run: look at k3s on the servers, restart it there"
            " (disable-controller-manager?)",
            "", facts.kubectl("get deployments,statefulsets,daemonsets,replicasets -A"), 0.8,
            (f"{len(silent)} workloads have had no pods for more than 20 s and no event says why",),
            tuple((follow, name) for name in silent for follow in OF_WORKLOADS),
        )  # fmt: skip


def webhooks(facts: Facts) -> Iterator[Finding]:
    """Webhooks that must agree to changes and have nobody behind them."""
    for kind in ("validating", "mutating"):
        for one in facts.things(kind):
            for hook in one.fields["hooks"]:
                if hook["policy"] != "Fail" or hook["service"] is None:
                    continue
                namespace, service = hook["service"]
                name = f"{kind}webhookconfiguration {one.name}"
                ready = facts.ready_endpoints(namespace, service)
                known = facts.api is not None and facts.api.read("services")
                if ready or not known:
                    continue
                yield Finding(
                    "CLUSTER_241",
                    f"webhook {hook['name']} must agree to changes of {some(hook['resources'], 3)}, and its service"
                    f" {namespace}/{service} " + ("does not exist" if ready is None else "has no pod that is ready"),
                    f"bring its pods up, or remove what is left of it: kubectl delete {name}",
                    hook["name"], facts.kubectl(f"get {name} -o yaml"), 0.91,
                    (f"failurePolicy Fail, service {namespace}/{service}",),
                    (("CLUSTER_241", hook["name"]), ("CLUSTER_244", "*")),
                )  # fmt: skip


def api_services(facts: Facts) -> Iterator[Finding]:
    """Parts of the API that others serve and that do not answer; namespaces that cannot end because of them."""
    stuck = [one.name for one in facts.things("namespaces") if one.fields["phase"] == "Terminating"]
    for one in facts.things("apiservices"):
        state = one.fields["conditions"].get("Available", {})
        if state.get("status") != "False":
            continue
        ends = f"; namespaces {some(stuck)} cannot end because of it" if stuck else ""
        yield Finding(
            "CLUSTER_242",
            f"the API {one.name} is served by {one.fields['service'] or 'nobody'}, which does not answer{ends}",
            f"bring {one.fields['service']} up, or remove what is left of it: kubectl delete apiservice {one.name}",
            one.name, facts.kubectl(f"get apiservice {one.name} -o yaml"), 0.87 if stuck else 0.7,
            (f"{state.get('reason')}: {short(state.get('message', ''))}",), (("CLUSTER_256", "*"),),
        )  # fmt: skip
    for one in facts.things("namespaces"):
        conditions = one.fields["conditions"]
        why = [found["message"] for name, found in conditions.items()
               if found["status"] == "True" and name.startswith("Namespace")]  # fmt: skip
        if one.fields["phase"] == "Terminating" and why:
            yield Finding(
                "CLUSTER_256", f"namespace {one.name} cannot end: {short(why[0], 140)}",
                "remove what it names; finalizers whose controller is gone must be taken off by hand",
                one.name, facts.kubectl(f"get namespace {one.name} -o yaml"), 0.75,
                tuple(short(text) for text in why[:2]),
            )  # fmt: skip


def cluster_dns(facts: Facts) -> Iterator[Finding]:
    """CoreDNS: there and not well, or not there at all."""
    if not facts.api or not (facts.api.read("deployments") and facts.api.read("services")):
        return
    found = next((one for one in facts.workloads() if (one.namespace, one.name) == ("kube-system", "coredns")), None)
    ready = facts.ready_endpoints("kube-system", "kube-dns")
    check = facts.kubectl("-n kube-system get deployment,endpointslices,pods -l k8s-app=kube-dns")
    if found is not None and (found.ready == 0 or ready == 0):
        words = "is scaled to nothing" if found.desired == 0 else "has no pod that is ready"
        remedy = "kubectl -n kube-system scale deployment coredns --replicas 1" if found.desired == 0 \
            else "see what its pods lack"
        yield Finding(
            "CLUSTER_243", f"the cluster's DNS does not answer: coredns {words}", remedy, "kube-system/coredns", check,
            0.93 if found.desired == 0 else 0.85, (f"{found.ready}/{found.desired} pods, {ready} endpoints",),
        )  # fmt: skip
    elif found is None and ready is not None and ready == 0:
        yield Finding("CLUSTER_243", "the cluster's DNS does not answer: service kube-dns has nobody behind it",
                      "bring coredns up (k3s_disable without coredns)", "kube-system/coredns", check, 0.85)  # fmt: skip


def charts(facts: Facts) -> Iterator[Finding]:
    """Helm charts whose job failed."""
    for one in facts.things("helmcharts"):
        failed = one.fields["conditions"].get("Failed", {})
        job = next((found for found in facts.things("jobs")
                    if (found.namespace, found.name) == (one.namespace, one.fields["job"])), None)  # fmt: skip
        gave_up = job is not None and job.fields["conditions"].get("Failed", {}).get("status") == "True"
        tries = job.fields["failed"] if job else 0
        pods = [pod for pod in facts.ill_pods() if pod.namespace == one.namespace and one.fields["job"]
                and pod.name.startswith(one.fields["job"] + "-") and pod.phase != "Succeeded"]  # fmt: skip
        done = job is not None and bool(job.fields["succeeded"])
        if not (failed.get("status") == "True" or gave_up or (tries >= 2 and not done)):
            continue
        yield Finding(
            "CLUSTER_244", f"Helm could not install chart {one.name}",
            f"see the job's log; skerry provision --tags {one.name.replace('-', '_')}_install tries again",
            one.name, facts.kubectl(f"-n {one.namespace} logs job/{one.fields['job']} --tail 40"), 0.84,
            (short(failed.get("message") or f"job {one.fields['job']}: {tries} tries failed"),
             *(f"pod {pod.name}: {pod.status}" for pod in pods[:1])),
        )  # fmt: skip


def issued(facts: Facts) -> Iterator[Finding]:
    """Certificates that cert-manager could not issue or renew."""
    for one in facts.things("certificates"):
        ready = one.fields["conditions"].get("Ready", {})
        name, ends = f"{one.namespace}/{one.name}", one.fields["not_after"]
        check = facts.kubectl(f"-n {one.namespace} describe certificate {one.name}")
        if ends and ends < facts.now:
            yield Finding("CLUSTER_245", f"certificate {name} has expired", "see why cert-manager did not renew it",
                          name, check, 0.92, (short(ready.get("message", "")),))  # fmt: skip
        elif ready.get("status") == "False":
            yield Finding(
                "CLUSTER_246", f"certificate {name} is not issued: {short(ready.get('message', ''), 120)}",
                f"look at its issuer {one.fields['issuer']} and at cert-manager's pods", name, check, 0.75,
                (f"{ready.get('reason')}: {short(ready.get('message', ''))}",),
            )  # fmt: skip


def versions(facts: Facts) -> Iterator[Finding]:
    """Kubelets newer than their API server, or too old for it."""
    server = _minor(facts.api.version) if facts.api else None
    for node in facts.nodes():
        minor = _minor(node.version)
        if server is None or minor is None or server - 3 <= minor <= server:
            continue
        yield Finding(
            "CLUSTER_257",
            f"node {node.name} runs {node.version}, the API server {facts.api.version if facts.api else ''}: "
            + ("a kubelet may not be newer" if minor > server else "more than three minor releases behind"),
            "bring all hosts to one k3s_version: servers first, then agents", node.name,
            facts.kubectl("get nodes -o wide"), 0.55, (f"kubelet {node.version}, API server {facts.api.version}",)
            if facts.api else (), (),
        )  # fmt: skip


def _minor(version: str) -> int | None:
    found = re.match(r"v1\.(\d+)", version)
    return int(found[1]) if found else None


def slow(facts: Facts) -> Iterator[Finding]:
    """An API server that answers, and not in time."""
    outcomes = facts.api.outcomes.values() if facts.api else ()
    late = [one for one in outcomes if one.kind == "timeout" and one.name not in ("metrics", "usage")]
    if late:
        yield Finding(
            "CLUSTER_247", f"the API server is too slow: {some(one.name for one in late)} did not come in time",
            "look at the server's load, disk and datastore; --timeout gives it longer", "",
            facts.kubectl("get --raw /readyz?verbose"), 0.6, tuple(f"{one.name}: {one.error}" for one in late[:3]),
        )  # fmt: skip


RULES = (nodes, evicted, scheduling, refused, webhooks, api_services, cluster_dns, charts, issued, versions, slow)
