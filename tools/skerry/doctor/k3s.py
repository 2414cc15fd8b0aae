"""Rules on k3s: its services, how agents stand with their server, certificates, the kubeconfig."""

from __future__ import annotations

import time
from collections.abc import Iterator

from skerry.doctor import journal
from skerry.doctor.facts import AGENTS, SERVERS, Facts
from skerry.doctor.findings import Finding, short, some
from skerry.targets.look import Look

DAY = 86400.0
#: What a host's service explains when it does not run.
_AFTER_SERVER = ("CLUSTER_221", "CLUSTER_230", "CLUSTER_209", "CLUSTER_247", "CLUSTER_222", "RUNTIME_206")


def _follow(facts: Facts, look: Look, unit: str) -> tuple[tuple[str, str], ...]:
    """What follows from k3s not running on a host."""
    node = facts.node_of(look)
    mine = [("CLUSTER_230", node), ("RUNTIME_206", look.name), ("CLUSTER_222", look.name), ("CLUSTER_209", look.name)]
    if unit == "k3s":
        mine += [(code, "*") for code in _AFTER_SERVER]
    return (*mine, *facts.after_node(node))


def services(facts: Facts) -> Iterator[Finding]:
    """k3s does not run on a host that has it, or was never put on a host that should have it."""
    for look in facts.known():
        name, unit = facts.unit(look)
        expected = {SERVERS, AGENTS} & set(look.target.groups)
        if not name:
            if expected and "units" in look.report:
                yield Finding(
                    "CLUSTER_207",
                    f"host {look.name} has no k3s, though the inventory makes it a node",
                    f"skerry provision --limit {look.name}",
                    look.name, facts.on(look.name, "systemctl status k3s k3s-agent"), 0.8, (),
                    (("CLUSTER_221", "*"),) if SERVERS in expected else (),
                )  # fmt: skip
            continue
        if unit.get("ActiveState") != "active":
            yield _stopped(facts, look, name, unit)


def _stopped(facts: Facts, look: Look, name: str, unit: dict[str, str]) -> Finding:
    state = f"{unit.get('ActiveState')} ({unit.get('SubState')})"
    evidence = [f"unit {name}: {state}, result {unit.get('Result') or '?'}, {unit.get('NRestarts', '0')} restarts"]
    evidence += [short(line) for line in journal.last_words(look.part("journals").get(name, ""), 2)]
    if unit.get("ActiveState") == "inactive":
        words, remedy = "is stopped", f"start it: systemctl start {name}"
        if unit.get("UnitFileState") in ("disabled", "masked"):
            words += f" and {unit['UnitFileState']}"
            remedy = f"systemctl unmask {name}; systemctl enable --now {name}"
    elif unit.get("ActiveState") == "failed":
        words, remedy = "has failed", f"look at its journal, then systemctl restart {name}"
    else:
        words, remedy = "does not come up", "look at its journal for the reason"
    likelihood = 0.95 if unit.get("ActiveState") == "inactive" else 0.8
    rest = (
        remedy, look.name, facts.on(look.name, f"systemctl status {name} --no-pager"), likelihood, tuple(evidence),
        _follow(facts, look, name),
    )  # fmt: skip
    if name == "k3s":
        return Finding("CLUSTER_204", f"k3s on host {look.name} {words}", *rest)
    return Finding("CLUSTER_205", f"k3s-agent on host {look.name} {words}", *rest)


def known_words(facts: Facts) -> Iterator[Finding]:
    """Causes that k3s itself names in its journal, on hosts where it does not run as it should."""
    for look in facts.known():
        name, unit = facts.unit(look)
        node = facts.node(look)
        well = unit.get("ActiveState") == "active" and (node is None or node.ready == "True")
        stopped = unit.get("ActiveState") == "inactive"  # by somebody: what it said before is not why
        found = None if well or stopped or not name else journal.diagnose(look.part("journals").get(name, ""))
        if found is None:
            continue
        own = (("CLUSTER_204", look.name), ("CLUSTER_205", look.name), *_follow(facts, look, name))
        beside = (("CLUSTER_208", look.name),) if found.code in ("CLUSTER_105", "CLUSTER_102") else ()
        yield Finding(
            found.code, f"k3s on host {look.name}: {found.cause}", found.remedy, look.name,
            facts.on(look.name, f"journalctl -u {name} -n 50 --no-pager"), 0.9 if found.final else 0.6,
            (short(found.line),), own + beside,
        )  # fmt: skip


def program(facts: Facts) -> Iterator[Finding]:
    """The k3s binary itself does not start."""
    for look in facts.known():
        found = look.part("binary")
        if not found or found.get("starts"):
            continue
        name, _ = facts.unit(look)
        yield Finding(
            "CLUSTER_206",
            f"the program /usr/local/bin/k3s of host {look.name} does not start: {short(found.get('says', ''), 90)}",
            f"skerry provision --limit {look.name} puts the verified one back",
            look.name, facts.on(look.name, "/usr/local/bin/k3s --version"), 0.97, (short(found.get("says", "")),),
            (("CLUSTER_204", look.name), ("CLUSTER_205", look.name), *_follow(facts, look, name)),
        )  # fmt: skip


#: Port -> (unit that wants it, words).
_PORTS = {"6443": "k3s", "10250": "", "6444": "k3s-agent"}
_OWN = ("k3s", "kubelet", "containerd")


def ports(facts: Facts) -> Iterator[Finding]:
    """Another program holds a port that k3s wants."""
    for look in facts.known():
        name, unit = facts.unit(look)
        if not name or unit.get("ActiveState") == "active":
            continue
        for port, wants in _PORTS.items():
            holder = look.part("listeners").get(port)
            if holder and wants in ("", name) and not str(holder).startswith(_OWN):
                yield Finding(
                    "CLUSTER_216",
                    f"port {port} of host {look.name}, which {name} wants, is held by {holder}",
                    "stop that program, or move it to another port; then systemctl restart " + name,
                    look.name, facts.on(look.name, f"ss -ltnp sport = :{port}"), 0.97,
                    (f"{holder} listens on {port}", f"{name} is {unit.get('ActiveState')}"),
                    (("CLUSTER_109", look.name), ("CLUSTER_204", look.name), ("CLUSTER_205", look.name),
                     *_follow(facts, look, name)),
                )  # fmt: skip


def joining(facts: Facts) -> Iterator[Finding]:
    """How a host stands with the server that it joins: path, CA, token."""
    for look in facts.known():
        found = look.part("joining")
        if not found:
            continue
        name, _ = facts.unit(look)
        ill = not facts.running(look) or getattr(facts.node(look), "ready", "True") != "True"
        own = (("CLUSTER_204", look.name), ("CLUSTER_205", look.name), ("CLUSTER_102", look.name),
               ("CLUSTER_105", look.name), ("CLUSTER_119", look.name), *_follow(facts, look, name))  # fmt: skip
        tcp = found.get("tcp") or {}
        if not tcp.get("open"):
            alive = facts.api_alive()
            drops = look.report.get("packet_filter") or (alive.report.get("packet_filter") if alive else []) or []
            yield Finding(
                "CLUSTER_209",
                f"host {look.name} does not reach its server {found['url']}: {tcp.get('error')}"
                + (f", though the API is up on {alive.name}" if alive else ""),
                "open 6443/tcp from this host to the server (firewall, VPN, routes); correct k3s_api_endpoint"
                if alive else "see what is wrong with the server first",
                look.name, facts.on(look.name, f"curl -kv --max-time 5 {found['url']}/ping"), 0.93 if alive else 0.5,
                (f"TCP to {found['url']}: {tcp.get('error')}", *(str(rule) for rule in drops)), own,
            )  # fmt: skip
        elif found.get("ca_matches") is False:
            yield Finding(
                "CLUSTER_217",
                f"the token of host {look.name} belongs to another cluster: its server has a different CA",
                "run site.yml with the first server included, so that the host gets the present token",
                look.name, facts.on(look.name, "journalctl -u k3s-agent -n 30 --no-pager"), 0.95 if ill else 0.6,
                ("the hash in the token is not that of the server's CA",), own,
            )  # fmt: skip
        elif found.get("token_status") in (401, 403):
            yield Finding(
                "CLUSTER_208",
                f"the server refuses the token of host {look.name}",
                "run site.yml with the first server included, so that the host gets the present token",
                look.name, facts.on(look.name, "journalctl -u k3s-agent -n 30 --no-pager"), 0.96 if ill else 0.7,
                (f"{found['url']} answers {found['token_status']} to the token",), own,
            )  # fmt: skip


def certificates(facts: Facts) -> Iterator[Finding]:
    """Certificates of k3s on hosts that have ended, are not valid yet, or end soon."""
    for look in facts.known():
        found = look.report.get("certificates") or []
        ended = [one for one in found if one["not_after"] < facts.now]
        early = [one for one in found if one["not_before"] > facts.now + 60]
        soon = [one for one in found if facts.now <= one["not_after"] < facts.now + 7 * DAY]
        unit = facts.unit(look)[0] or "k3s"
        command = facts.on(look.name, "k3s certificate check")
        follows = (("CLUSTER_110", look.name), ("CLUSTER_204", look.name), ("CLUSTER_205", look.name),
                   *_follow(facts, look, unit))  # fmt: skip
        names = some((one["path"].rpartition("/")[2] for one in ended or early or soon), 3)
        if ended:
            days = (facts.now - ended[0]["not_after"]) / DAY
            yield Finding(
                "CLUSTER_215",
                f"{len(ended)} of k3s's certificates on host {look.name} have expired ({names}), {days:.0f} days ago",
                f"systemctl restart {unit} renews what is within 120 days of its end; else k3s certificate rotate",
                look.name, command, 0.95, tuple(f"{one['path']} ended {_date(one['not_after'])}" for one in ended[:3]),
                follows,
            )  # fmt: skip
        elif early:
            yield Finding(
                "CLUSTER_215",
                f"certificates of k3s on host {look.name} are not valid yet ({names}): a clock was wrong",
                "set the clocks right, then k3s certificate rotate",
                look.name, command, 0.85, (f"{early[0]['path']} begins {_date(early[0]['not_before'])}",), follows,
            )  # fmt: skip
        elif soon:
            yield Finding(
                "CLUSTER_219",
                f"certificates of k3s on host {look.name} end within a week ({names})",
                f"restart k3s in a quiet hour: systemctl restart {unit}",
                look.name, command, 0.3, (f"{soon[0]['path']} ends {_date(soon[0]['not_after'])}",),
            )  # fmt: skip


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))


def health(facts: Facts) -> Iterator[Finding]:
    """A server that runs and does not serve; a kubelet or a containerd that runs and does not answer."""
    for look in facts.known():
        if not facts.running(look):
            continue
        api = look.part("api")
        if api and api.get("status") != 200:
            failed = api.get("failed") or []
            stored = any(name.startswith("etcd") for name in failed)
            remedy = "look at the server's journal; a restart that just happened needs half a minute"
            if stored:
                remedy = "look at the datastore: its disk, etcd's members (k3s etcd-snapshot ls)"
            rest = (
                remedy, look.name, facts.on(look.name, "k3s kubectl get --raw /readyz?verbose"), 0.75,
                (f"/readyz: {api.get('status')} {some(failed)} {api.get('error', '')}".strip(),),
                (("CLUSTER_221", "*"),),
            )  # fmt: skip
            if stored:
                yield Finding("STORAGE_206", f"the datastore of host {look.name} does not answer its API server", *rest)
            else:
                said = some(failed) or api.get("error")
                yield Finding("CLUSTER_222", f"the API server of host {look.name} is up and not ready: {said}", *rest)
        kubelet, containerd = look.part("kubelet"), look.part("containerd")
        if containerd and not containerd.get("answers"):
            yield Finding(
                "RUNTIME_206",
                f"k3s's containerd on host {look.name} does not answer",
                f"look at {'/var/lib/rancher/k3s/agent/containerd/containerd.log'}, then restart k3s",
                look.name, facts.on(look.name, "tail -n 40 /var/lib/rancher/k3s/agent/containerd/containerd.log"), 0.85,
                (containerd.get("error", ""),), (("CLUSTER_230", facts.node_of(look)), ("CLUSTER_223", look.name)),
            )  # fmt: skip
        elif kubelet and kubelet.get("status") != 200:
            yield Finding(
                "CLUSTER_223",
                f"the kubelet of host {look.name} is not healthy: {kubelet.get('says')}",
                "look at k3s's journal on that host",
                look.name, facts.on(look.name, "curl -s http://127.0.0.1:10248/healthz"), 0.7,
                (f"/healthz: {kubelet.get('status')} {kubelet.get('says')}",),
                (("CLUSTER_230", facts.node_of(look)),),
            )  # fmt: skip


def kubeconfig(facts: Facts) -> Iterator[Finding]:
    """The way from this machine to the API: the file, its certificate, its address."""
    cluster, file = facts.cluster, facts.kubeconfig
    if cluster is None or cluster.error is None:
        return
    error, path = cluster.error, file.get("path")
    fetch = "run playbooks/cluster.yml (or skerry provision): it fetches the kubeconfig again"
    view = f"kubectl --kubeconfig {path} config view"
    alive = facts.api_alive()
    seen = (short(error.error), *((f"the API is ready on {alive.name}",) if alive else ()))
    if error.kind == "kubeconfig":
        there = "cannot be used" if file.get("exists") else "is not there"
        yield Finding("CLUSTER_224", f"the kubeconfig {path} {there}", fetch, "", f"ls -l {path}",
                      0.9, seen, (("CLUSTER_221", "*"),))  # fmt: skip
    elif error.kind == "untrusted":
        yield Finding(
            "CLUSTER_225",
            f"the kubeconfig {path} belongs to another cluster: the server's certificate is not of its CA",
            fetch, "", view, 0.93, seen, (("CLUSTER_221", "*"),),
        )  # fmt: skip
    elif error.kind in ("unauthorised", "client-certificate"):
        after, before = file.get("not_after"), file.get("not_before")
        if after and after < facts.now:
            yield Finding(
                "CLUSTER_218",
                f"the client certificate in the kubeconfig {path} expired {_date(after)}",
                fetch + "; the server's own copy is renewed when k3s restarts",
                "", view, 0.97, seen, (("CLUSTER_221", "*"), ("CLUSTER_226", "*")),
            )  # fmt: skip
        elif before and before > facts.now:
            yield Finding("CLUSTER_218", f"the client certificate in the kubeconfig {path} is not valid yet",
                          "set this machine's clock", "", "date", 0.9, seen, (("CLUSTER_221", "*"),))  # fmt: skip
        else:
            yield Finding(
                "CLUSTER_226",
                f"the API server does not know who the kubeconfig {path} is: it was made for another cluster,"
                " or the cluster was made anew",
                fetch, "", view, 0.9, seen, (("CLUSTER_221", "*"),),
            )  # fmt: skip
    else:
        yield from _no_way(facts, alive, seen, fetch)


def _no_way(facts: Facts, alive: Look | None, seen: tuple[str, ...], fetch: str) -> Iterator[Finding]:
    server, error = facts.kubeconfig.get("server"), facts.cluster.error if facts.cluster else None
    said = short(error.error) if error else ""
    if alive is not None:
        address = str(alive.target.variables.get("ansible_host") or alive.name)
        other = address not in str(server)
        yield Finding(
            "CLUSTER_220",
            f"the kubeconfig's address {server} is not answered here, though the API is ready on {alive.name}"
            + (f" ({address})" if other else ""),
            f"the address is not the server's: {fetch}" if other
            else "open 6443/tcp from this machine to the server (firewall, VPN, routes)",
            "", f"curl -kv --max-time 5 {server}/ping", 0.95, seen, (("CLUSTER_221", "*"),),
        )  # fmt: skip
    else:
        yield Finding(
            "CLUSTER_221",
            f"the API server does not answer: {said}",
            "look at k3s on the servers: systemctl status k3s",
            "", f"curl -kv --max-time 5 {server}/ping", 0.55, seen,
        )  # fmt: skip


RULES = (services, known_words, program, ports, joining, certificates, health, kubeconfig)
