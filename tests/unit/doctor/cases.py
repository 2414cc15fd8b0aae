"""One thing spoilt at a time, and the cause that the doctor must name first for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from unit.doctor.made import DAY, NOW, Site, event, pod, thing, waiting, workload

from skerry.status.model import Thing

Spoil = Callable[[Site], object]


def objects(kind: str, *found: Thing) -> Spoil:
    def spoil(site: Site) -> None:
        assert site.cluster is not None
        site.cluster.things[kind] = [*site.cluster.things.get(kind, []), *found]

    return spoil


def pods(*found: Any) -> Spoil:
    return lambda site: site.cluster.pods.extend(found) if site.cluster else None


def workloads(*found: Any) -> Spoil:
    return lambda site: site.cluster.workloads.extend(found) if site.cluster else None


def both(*spoils: Spoil) -> Spoil:
    def spoil(site: Site) -> None:
        for one in spoils:
            one(site)

    return spoil


def part(host: str, name: str, **values: Any) -> Spoil:
    return lambda site: site.report(host)[name].update(values)


def journal(words: str, host: str = "agent") -> Spoil:
    return lambda site: site.stop(host, "activating", f'2026-11-21T10:00:00 {host} k3s[1]: level=error msg="{words}"')


def disk(**values: Any) -> Spoil:
    return lambda site: site.report("agent")["disks"][0].update(values)


def scheduled(said: str, **more: Any) -> Any:
    return pod(node="", conditions=[{"type": "PodScheduled", "status": "False", "message": said}], **more)


def scaled_dns(site: Site) -> None:
    assert site.cluster is not None
    site.cluster.workloads[0].ready = site.cluster.workloads[0].desired = 0
    site.cluster.things["endpoints"] = []


def condition(name: str) -> Spoil:
    def spoil(site: Site) -> None:
        assert site.cluster is not None
        node = site.cluster.nodes["agent"]
        node.conditions[name] = type(node.conditions["Ready"])("True", "Kubelet", "low", NOW - 60)

    return spoil


def version(text: str) -> Spoil:
    return lambda site: setattr(site.cluster.nodes["agent"], "version", text) if site.cluster else None


def late(site: Site) -> None:
    assert site.cluster is not None
    one = site.cluster.outcomes["pods"]
    one.state, one.kind, one.error = "partial", "timeout", "not done within 10 s"


def old_kubeconfig(site: Site) -> None:
    site.silent("unauthorised", "Unauthorized")
    site.kubeconfig["not_after"] = NOW - DAY


def claim(name: str, cls: str | None) -> Thing:
    return thing("shop", name, phase="Pending", volume="", asked="1Gi", **{"class": cls})


HOOK = {"name": "check.example.org", "policy": "Fail", "service": ("guard", "guard"), "resources": ["pods"]}
OOM = [{"name": "main", "image": "x", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]  # fmt: skip
BROKER = workload("StatefulSet", "redpanda", "redpanda", 0)
NFS = workload("StatefulSet", "nfs", "nfs-server-provisioner", 0)
IMMEDIATE = thing("", "slow", provisioner="nfs.example.org", binding="Immediate", default=False)

#: What is spoilt -> (code, where) that must come first.
CASES: dict[str, tuple[Spoil, str, str]] = {
    "host gone": (both(lambda site: site.lose("agent"), lambda site: site.not_ready("agent")), "CLUSTER_201", "agent"),
    "login refused": (lambda site: site.lose("agent", "TARGET_004"), "CLUSTER_202", "agent"),
    "all hosts gone": (
        both(lambda s: s.lose("agent"), lambda s: s.lose("server"), lambda s: s.silent("timeout")),
        "CLUSTER_203",
        "",
    ),
    "disk full": (both(disk(used_percent=99.0, free=10**8), condition("DiskPressure")), "STORAGE_201", "agent"),
    "inodes": (disk(inodes_free=3), "STORAGE_202", "agent"),
    "read-only": (disk(read_only=True), "STORAGE_203", "agent"),
    "clock of a host": (lambda site: site.skew("agent", -400.0), "CLUSTER_211", "agent"),
    "clock of this machine": (
        both(lambda s: s.skew("agent", 90.0), lambda s: s.skew("server", 91.0)),
        "CLUSTER_210",
        "",
    ),
    "no memory": (part("agent", "memory", available=10 << 20), "CLUSTER_212", "agent"),
    "resolver": (part("agent", "resolvers", servers={"10.0.0.53": "no answer within 1.2 s"}), "CLUSTER_213", "agent"),
    "no resolver": (part("agent", "resolvers", servers={}), "CLUSTER_214", "agent"),
    "agent stopped": (both(lambda s: s.stop("agent"), lambda s: s.not_ready("agent")), "CLUSTER_205", "agent"),
    "server stopped": (
        both(
            lambda s: s.stop("server"),
            lambda s: s.silent("refused"),
            part("agent", "joining", tcp={"open": False, "error": "Connection refused"}),
        ),
        "CLUSTER_204",
        "server",
    ),
    "agent fails": (lambda site: site.stop("agent", "failed"), "CLUSTER_205", "agent"),
    "no k3s": (lambda site: site.report("agent")["units"].pop("k3s-agent"), "CLUSTER_207", "agent"),
    "unknown key": (journal("flag provided but not defined: -no-such-key"), "CLUSTER_101", "agent"),
    "node password": (journal("Node password rejected, duplicate hostname"), "CLUSTER_104", "agent"),
    "cgroup v1": (journal("kubelet is configured to not run on a host using cgroup v1"), "CLUSTER_107", "agent"),
    "disk said in the journal": (journal("write /x: no space left on device"), "STORAGE_111", "agent"),
    "runtime said in the journal": (journal("default runtime spin was not found"), "RUNTIME_113", "agent"),
    "port taken": (
        both(
            journal("listen tcp :6443: bind: address already in use", "server"),
            lambda s: s.silent("broken"),
            part("server", "listeners", **{"6443": "python3 (pid 99)"}),
        ),
        "CLUSTER_216",
        "server",
    ),
    "k3s damaged": (
        both(lambda s: s.stop("agent", "failed"), part("agent", "binary", starts=False, says="Exec format error")),
        "CLUSTER_206",
        "agent",
    ),
    "firewall": (
        both(part("agent", "joining", tcp={"open": False, "error": "no answer"}), lambda s: s.not_ready("agent")),
        "CLUSTER_209",
        "agent",
    ),
    "other cluster's token": (
        both(journal("token CA hash does not match"), part("agent", "joining", ca_matches=False)),
        "CLUSTER_217",
        "agent",
    ),
    "wrong token": (
        both(journal("not authorized"), part("agent", "joining", token_status=401)),
        "CLUSTER_208",
        "agent",
    ),
    "expired on a host": (
        lambda s: s.report("agent")["certificates"][0].update(not_after=NOW - DAY),
        "CLUSTER_215",
        "agent",
    ),
    "not valid yet": (
        lambda s: s.report("agent")["certificates"][0].update(not_before=NOW + DAY),
        "CLUSTER_215",
        "agent",
    ),
    "ends soon": (lambda s: s.report("agent")["certificates"][0].update(not_after=NOW + DAY), "CLUSTER_219", "agent"),
    "API not ready": (
        both(part("server", "api", status=500, failed=["poststarthook/x"]), lambda s: s.silent("refused-request")),
        "CLUSTER_222",
        "server",
    ),
    "datastore": (part("server", "api", status=500, failed=["etcd"]), "STORAGE_206", "server"),
    "kubelet ill": (part("agent", "kubelet", status=500, says="sync loop"), "CLUSTER_223", "agent"),
    "containerd gone": (
        both(part("agent", "containerd", answers=False, error="refused"), part("agent", "kubelet", status=500)),
        "RUNTIME_206",
        "agent",
    ),
    "no kubeconfig": (
        both(lambda s: s.silent("kubeconfig"), lambda s: s.kubeconfig.update(exists=False)),
        "CLUSTER_224",
        "",
    ),
    "another cluster's kubeconfig": (lambda s: s.silent("untrusted"), "CLUSTER_225", ""),
    "kubeconfig expired": (old_kubeconfig, "CLUSTER_218", ""),
    "kubeconfig unknown": (lambda s: s.silent("unauthorised"), "CLUSTER_226", ""),
    "kubeconfig's address": (
        both(lambda s: s.silent("timeout"), lambda s: s.kubeconfig.update(server="https://10.9.9.9:6443")),
        "CLUSTER_220",
        "",
    ),
    "nothing known of the server": (
        both(lambda s: s.silent("timeout"), lambda s: s.looks.pop("server")),
        "CLUSTER_221",
        "",
    ),
    "crun broken": (
        lambda s: s.report("agent")["handlers"]["crun-wasm"].update(starts=False, says="exit code 1"),
        "RUNTIME_201",
        "agent",
    ),
    "crun gone": (
        lambda s: s.report("agent")["handlers"]["crun-wasm"].update(starts=False, says="no such file"),
        "RUNTIME_202",
        "agent",
    ),
    "wasmedge gone": (
        lambda s: s.report("agent")["programs"]["wasmedge"].update(starts=False, says="no such file"),
        "RUNTIME_202",
        "agent",
    ),
    "handler lost": (lambda s: s.report("agent")["handlers"].pop("crun-wasm"), "RUNTIME_203", "agent"),
    "handler unknown": (
        both(
            pods(pod()),
            objects(
                "events",
                event(
                    "FailedCreatePodSandBox",
                    'rpc error: desc = failed to get sandbox runtime: no runtime for "spin" is configured',
                    "web-1",
                ),
            ),
        ),
        "RUNTIME_203",
        "agent",
    ),
    "no sandbox": (
        both(
            pods(pod()),
            objects("events", event("FailedCreatePodSandBox", "rpc error: desc = cni plugin not initialized", "web-1")),
        ),
        "RUNTIME_205",
        "agent",
    ),
    "image": (
        pods(pod(containerStatuses=waiting("ImagePullBackOff", "Back-off: not found"))),
        "RUNTIME_204",
        "registry.invalid/x:1",
    ),
    "crash": (
        pods(pod(phase="Running", containerStatuses=waiting("CrashLoopBackOff", restarts=4))),
        "RUNTIME_209",
        "shop/web-1",
    ),
    "out of memory": (pods(pod(phase="Running", containerStatuses=OOM)), "RUNTIME_210", "shop/web-1"),
    "architecture": (
        pods(pod(containerStatuses=waiting("CreateContainerError", "exec format error"))),
        "RUNTIME_211",
        "shop/web-1",
    ),
    "cannot start": (
        pods(pod(containerStatuses=waiting("RunContainerError", "exec: /x: no such file"))),
        "RUNTIME_212",
        "shop/web-1",
    ),
    "no Secret": (
        pods(pod(containerStatuses=waiting("CreateContainerConfigError", 'secret "x" not found'))),
        "CLUSTER_240",
        "shop/web-1",
    ),
    "evicted": (pods(pod(phase="Failed", reason="Evicted", message="low on memory")), "RUNTIME_213", "agent"),
    "docker stopped": (
        both(
            part("agent", "docker", answers=False, error="refused"),
            lambda s: s.report("agent")["units"]["docker"].update(ActiveState="inactive"),
        ),
        "RUNTIME_207",
        "agent",
    ),
    "docker's settings": (
        part("agent", "docker", answers=False, config_error="daemon.json: line 1"),
        "RUNTIME_208",
        "agent",
    ),
    "docker's runtime": (
        lambda s: s.report("agent")["docker"]["runtimes"][0].update(starts=False, says="no such file"),
        "RUNTIME_201",
        "agent",
    ),
    "node not ready": (lambda s: s.not_ready("agent", "False", "container runtime is down"), "CLUSTER_230", "agent"),
    "memory pressure": (condition("MemoryPressure"), "CLUSTER_231", "agent"),
    "disk pressure": (condition("DiskPressure"), "STORAGE_204", "agent"),
    "no room": (pods(scheduled("0/2 nodes are available: 2 Insufficient memory.")), "CLUSTER_235", "shop/web-1"),
    "taint": (
        pods(scheduled("0/2 nodes are available: 2 node(s) had untolerated taint(s).")),
        "CLUSTER_236",
        "shop/web-1",
    ),
    "no nodes": (pods(scheduled("no nodes available to schedule pods")), "CLUSTER_237", "shop/web-1"),
    "selector": (
        pods(scheduled("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.")),
        "CLUSTER_239",
        "shop/web-1",
    ),
    "no scheduler": (pods(pod(node="")), "CLUSTER_248", ""),
    "no controllers": (workloads(workload("Deployment", "shop", "web", 0, made=0)), "CLUSTER_249", ""),
    "quota": (
        workloads(workload("Deployment", "shop", "web", 0, failure='pods "x" is forbidden: exceeded quota: q')),
        "CLUSTER_250",
        "shop/web",
    ),
    "pod security": (
        workloads(workload("Deployment", "shop", "web", 0, failure='violates PodSecurity "restricted"')),
        "CLUSTER_251",
        "shop/web",
    ),
    "webhook": (objects("validating", thing("", "guard", hooks=[HOOK])), "CLUSTER_241", "check.example.org"),
    "api service": (
        objects(
            "apiservices",
            thing(
                "", "v1.x", service="a/b", conditions={"Available": {"status": "False", "reason": "r", "message": "m"}}
            ),
        ),
        "CLUSTER_242",
        "v1.x",
    ),
    "namespace stuck": (
        objects(
            "namespaces",
            thing(
                "",
                "old",
                phase="Terminating",
                conditions={"NamespaceContentRemaining": {"status": "True", "message": "pods remain", "reason": ""}},
            ),
        ),
        "CLUSTER_256",
        "old",
    ),
    "cluster DNS": (scaled_dns, "CLUSTER_243", "kube-system/coredns"),
    "chart": (
        objects(
            "helmcharts",
            thing(
                "kube-system",
                "x",
                job="helm-install-x",
                version="1",
                target="x",
                conditions={"Failed": {"status": "True", "message": "bad values", "reason": ""}},
            ),
        ),
        "CLUSTER_244",
        "x",
    ),
    "certificate expired": (
        objects("certificates", thing("shop", "web", conditions={}, not_after=NOW - 5, issuer="ca")),
        "CLUSTER_245",
        "shop/web",
    ),
    "certificate not issued": (
        objects(
            "certificates",
            thing(
                "shop",
                "web",
                issuer="ca",
                not_after=0.0,
                conditions={"Ready": {"status": "False", "message": "issuer not found", "reason": "r"}},
            ),
        ),
        "CLUSTER_246",
        "shop/web",
    ),
    "kubelet too new": (version("v1.36.0"), "CLUSTER_257", "agent"),
    "API slow": (late, "CLUSTER_247", ""),
    "no such class": (objects("claims", claim("data", "fast")), "STORAGE_207", "shop/data"),
    "no default class": (
        both(
            objects("claims", claim("data", None)), lambda s: s.cluster.things["classes"].clear() if s.cluster else None
        ),
        "STORAGE_208",
        "shop/data",
    ),
    "provisioner gone": (
        both(objects("claims", claim("data", "slow")), objects("classes", IMMEDIATE)),
        "STORAGE_209",
        "shop/data",
    ),
    "NFS server gone": (workloads(NFS), "STORAGE_210", "nfs/nfs-server-provisioner"),
    "NFS hangs": (
        lambda s: s.report("agent")["nfs"]["mounts"].append({"source": "n:/e", "point": "/mnt", "answers": False}),
        "STORAGE_211",
        "agent",
    ),
    "no NFS client": (
        both(
            pods(pod()),
            objects("events", event("FailedMount", "mount: bad option; need a /sbin/mount.nfs helper", "web-1")),
        ),
        "STORAGE_212",
        "agent",
    ),
    "broker down": (workloads(BROKER), "BROKER_201", "redpanda/redpanda"),
    "broker scaled to nothing": (
        workloads(workload("StatefulSet", "redpanda", "redpanda", 0, 0)),
        "BROKER_203",
        "redpanda/redpanda",
    ),
    "one broker down": (
        workloads(workload("StatefulSet", "redpanda", "redpanda", 2, 3)),
        "BROKER_202",
        "redpanda/redpanda",
    ),
    "broker without aio": (
        both(
            workloads(BROKER),
            pods(
                pod(
                    "redpanda-0",
                    "redpanda",
                    phase="Running",
                    owner="StatefulSet/redpanda",
                    containerStatuses=waiting(
                        "CrashLoopBackOff", "Could not setup Async I/O: fs.aio-max-nr", restarts=4
                    ),
                )
            ),
        ),
        "BROKER_205",
        "redpanda/redpanda-0",
    ),
    "broker's image": (
        both(
            workloads(BROKER),
            pods(
                pod(
                    "redpanda-0",
                    "redpanda",
                    owner="StatefulSet/redpanda",
                    containerStatuses=waiting("ErrImagePull", "i/o timeout"),
                )
            ),
        ),
        "RUNTIME_204",
        "registry.invalid/x:1",
    ),
    "broker's place": (
        both(
            workloads(BROKER),
            pods(
                scheduled(
                    "0/2 nodes are available: 2 Insufficient memory.",
                    name="redpanda-0",
                    namespace="redpanda",
                    owner="StatefulSet/redpanda",
                )
            ),
        ),
        "CLUSTER_235",
        "redpanda/redpanda-0",
    ),
}
