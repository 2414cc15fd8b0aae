"""Rules on volumes: claims that stay Pending, provisioners and the NFS server, mounts that hang or fail."""

from __future__ import annotations

import re
from collections.abc import Iterator

from skerry.doctor.facts import Facts
from skerry.doctor.findings import Finding, Known, meaning, short, some
from skerry.status.model import Thing, Workload

_NFS = re.compile(r".*nfs-server-provisioner|csi-nfs-(controller|node)|nfs-.*")
#: Words of a failed mount.
_MOUNTS = (
    Known("STORAGE_212", r"bad option|need a /sbin/mount\.|helper program", "the node has no NFS client",
          "install nfs-common there (the role nfs_provisioner does it on every node)"),
    Known("STORAGE_213", r"unknown filesystem type|No such device|protocol not supported",
          "the node's kernel has no NFS", "install the kernel's extra modules, or use another storage class there"),
    Known("STORAGE_214", r"timed out|Connection refused|No route to host|not responding", "its server does not answer",
          "see to the storage server"),
    Known("STORAGE_215", r"access denied|Permission denied", "its server refuses the node",
          "see to the server's exports"),
    Known("STORAGE_216", r"not found", "what it names is not there",
          "create the Secret, ConfigMap or volume that it names"),
)  # fmt: skip
_MOUNT = Known("STORAGE_218", "", "the mount fails", "see what it says")


def _provisioner(facts: Facts, name: str) -> Workload | None:
    """The workload behind a provisioner's name; None when none is known."""
    for one in facts.workloads():
        if name == "rancher.io/local-path" and one.name == "local-path-provisioner":
            return one
        if "nfs" in name and one.kind != "DaemonSet" and _NFS.fullmatch(one.name):
            return one
    return None


def claims(facts: Facts) -> Iterator[Finding]:
    """Claims that stay Pending: no class, no default class, nobody who provides."""
    if facts.api is None or not facts.api.read("classes"):
        return
    classes = {one.name: one for one in facts.things("classes")}
    default = next((one for one in classes.values() if one.fields["default"]), None)
    for one in facts.things("claims"):
        if one.fields["phase"] != "Pending":
            continue
        wanted = one.fields["class"]
        chosen = default if wanted is None else classes.get(wanted)
        yield from _pending(facts, one, wanted, chosen, sorted(classes))


def _pending(facts: Facts, one: Thing, wanted: str | None, chosen: Thing | None, names: list[str]) -> Iterator[Finding]:
    name = f"{one.namespace}/{one.name}"
    describe = facts.kubectl(f"-n {one.namespace} describe pvc {one.name}")
    users = [pod for pod in facts.ill_pods()
             if pod.namespace == one.namespace and pod.trouble and one.name in pod.trouble.claims]  # fmt: skip
    follows = (("STORAGE_205", "*"), *facts.after(*users))
    if chosen is None and wanted == "":
        return  # bound by hand to a volume that somebody makes
    if chosen is None:
        rest = (
            f"name one of: {some(names) or 'none is there'}; local-path comes with k3s, nfs with nfs_provisioner",
            name, describe, 0.93, (f"storage classes: {some(names) or 'none'}",), follows,
        )  # fmt: skip
        if wanted is None:
            yield Finding("STORAGE_208", f"claim {name} names no storage class, and none is the default", *rest)
        else:
            yield Finding("STORAGE_207", f"claim {name} stays Pending: there is no storage class {wanted}", *rest)
        return
    waits = chosen.fields["binding"] == "WaitForFirstConsumer"
    if waits and not users:
        return  # nobody uses it yet: as it should be
    provider = _provisioner(facts, chosen.fields["provisioner"])
    # by its uid: an earlier claim of that name may have failed for another reason
    events = [event.fields["message"] for event in facts.events("ProvisioningFailed")
              if event.fields["uid"] == one.fields["uid"]]  # fmt: skip
    if provider is not None and provider.ready == 0:
        yield Finding(
            "STORAGE_209",
            f"claim {name} stays Pending: its provisioner {provider.namespace}/{provider.name} does not run",
            "see what its pods lack", name,
            facts.kubectl(f"-n {provider.namespace} get {provider.kind.lower()} {provider.name}"), 0.88,
            (f"{provider.kind} {provider.name}: {provider.ready}/{provider.desired}",), follows,
        )  # fmt: skip
    elif events:
        yield Finding(
            "STORAGE_217", f"claim {name} cannot be provided: {short(events[0], 140)}", "see what the provisioner says",
            name, describe, 0.88, (short(events[0]),), follows,
        )  # fmt: skip
    elif provider is None:
        yield Finding(
            "STORAGE_209",
            f"claim {name} stays Pending: nobody here provides {chosen.fields['provisioner']} (class {chosen.name})",
            "install its provisioner, or name another class", name, describe, 0.8 if not waits else 0.6,
            ("no workload of that provisioner is known",), follows,
        )  # fmt: skip


def nfs_server(facts: Facts) -> Iterator[Finding]:
    """The NFS server of the cluster is gone while volumes are on it."""
    for one in facts.workloads():
        if one.kind == "DaemonSet" or not _NFS.fullmatch(one.name) or one.ready > 0:
            continue
        mine = {found.name for found in facts.things("classes") if "nfs" in found.fields["provisioner"]}
        bound = [f"{claim.namespace}/{claim.name}" for claim in facts.things("claims")
                 if claim.fields["class"] in mine and claim.fields["phase"] == "Bound"]  # fmt: skip
        scaled = one.desired == 0
        yield Finding(
            "STORAGE_210",
            f"the NFS server {one.namespace}/{one.name} does not run"
            + (": it is scaled to nothing" if scaled else "")
            + (f"; {len(bound)} volumes are on it" if bound else ""),
            f"kubectl -n {one.namespace} scale {one.kind.lower()} {one.name} --replicas 1" if scaled
            else "see what its pod lacks; processes that use its volumes hang until it is back",
            f"{one.namespace}/{one.name}", facts.kubectl(f"-n {one.namespace} get {one.kind.lower()},pods"),
            0.94 if scaled else 0.86 if bound else 0.7, (f"{one.ready}/{one.desired} pods", *bound[:2]),
            (("STORAGE_211", "*"), ("STORAGE_214", "*"), ("STORAGE_209", "*")),
        )  # fmt: skip


def hung(facts: Facts) -> Iterator[Finding]:
    """Mounted network file systems that do not answer."""
    for look in facts.known():
        for one in look.part("nfs").get("mounts") or []:
            if one["answers"]:
                continue
            yield Finding(
                "STORAGE_211",
                f"host {look.name} hangs on {one['point']}, mounted from {one['source']}",
                "bring that server back; as a last resort umount -f -l, when nothing needs it any more",
                look.name, facts.on(look.name, f"timeout 3 stat -f {one['point']}"), 0.92,
                (f"{one['source']} did not answer", f"{look.part('nfs').get('stuck')} processes wait for a disk"),
                (("STORAGE_214", "*"),),
            )  # fmt: skip


def mounts(facts: Facts) -> Iterator[Finding]:
    """Volumes that a node cannot mount."""
    told: set[tuple[str, str]] = set()
    for event in facts.events("FailedMount", "FailedAttachVolume"):
        pod = facts.pending(event)
        if pod is None:
            continue
        words = event.fields["message"]
        known = meaning(_MOUNTS, words, _MOUNT)
        if (known.code, pod.node) in told:
            continue
        told.add((known.code, pod.node))
        look = facts.host_of(pod.node)
        yield Finding(
            known.code, f"a volume of pod {pod.namespace}/{pod.name} cannot be mounted on {pod.node}: {known.cause}",
            known.remedy,
            look.name if look else pod.node, facts.kubectl(f"-n {pod.namespace} describe pod {pod.name}"), 0.87,
            (short(words),), facts.after(pod),
        )  # fmt: skip


RULES = (claims, nfs_server, hung, mounts)
