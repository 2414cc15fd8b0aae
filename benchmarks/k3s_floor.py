#!/usr/bin/env python3
"""The k3s part of site.yml beside its floor: the same binary on the same hosts, started with plain units and no
playbook.

    benchmarks/k3s_floor.py -i INVENTORY [--runs 3]

The hosts must be up and may be sandbox hosts only: k3s is reset on them again and again. For each run it prints
  floor   seconds from the start of all units until the server, and until all nodes, are Ready (binary already placed)
  role    seconds of playbooks/cluster.yml on fresh hosts, and of a second run
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from checkout import BIN, ROOT

TEMPLATE_FILE = "/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.tmpl"
TEMPLATE = 'imports = ["/etc/skerry/containerd/*.toml"]\n{{ template "base" . }}\n'
TOKEN = "floor-" + "0" * 26
UNIT = """[Unit]
After=network-online.target
[Service]
Type=notify
ExecStart=/usr/local/bin/k3s {role}
KillMode=process
Delegate=yes
LimitNOFILE=1048576
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s
"""
#: Runs on the server: prints the seconds after which the first node, then all nodes, were Ready.
POLL = r"""
import http.client, json, ssl, sys, time
start, wanted, tls = time.monotonic(), int(sys.argv[1]), "/var/lib/rancher/k3s/server/tls/"
first = None
while time.monotonic() - start < 240:
    try:
        context = ssl.create_default_context(cafile=tls + "server-ca.crt")
        context.load_cert_chain(tls + "client-admin.crt", tls + "client-admin.key")
        link = http.client.HTTPSConnection("127.0.0.1", 6443, context=context, timeout=5)
        link.request("GET", "/api/v1/nodes")
        items = json.loads(link.getresponse().read()).get("items", [])
        states = [c for i in items for c in i["status"].get("conditions", []) if c["type"] == "Ready"]
        ready = sum(c["status"] == "True" for c in states)
        first = first or (ready and time.monotonic() - start)
        if ready >= wanted:
            print(json.dumps([round(first, 1), round(time.monotonic() - start, 1)]))
            sys.exit()
    except (OSError, ValueError):
        pass
    time.sleep(0.3)
sys.exit("not Ready in time")
"""


def output(*command: str, stdin: str | None = None) -> str:
    """Run a command; its output. Ends the script when it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        sys.exit(f"{' '.join(command)[:200]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def plain(value: Any) -> Any:
    """A variable as it is; ansible-inventory wraps those that plugins composed."""
    return value["__ansible_unsafe"] if isinstance(value, dict) and "__ansible_unsafe" in value else value


class Hosts:
    """The k3s hosts of an inventory, reached by plain ssh."""

    def __init__(self, inventory: str) -> None:
        data = json.loads(output(str(BIN / "ansible-inventory"), "-i", inventory, "--list"))
        self.inventory = inventory
        self.vars: dict[str, dict[str, Any]] = {
            host: {name: plain(value) for name, value in known.items()}
            for host, known in data["_meta"]["hostvars"].items()
        }
        self.servers: list[str] = data["skerry_servers"]["hosts"]
        self.agents: list[str] = data["skerry_agents"]["hosts"]
        if len(self.servers) != 1 or not all("sandbox_name" in self.vars[host] for host in self.servers + self.agents):
            sys.exit("choose an inventory of sandbox hosts with one server")

    def ssh(self, host: str, script: str, *arguments: str) -> str:
        """Run a Python or shell script as root on a host."""
        known = self.vars[host]
        command = ["ssh", "-i", known["ansible_ssh_private_key_file"], *known["ansible_ssh_common_args"].split()]
        interpreter = "python3 -" if script is POLL else "sh -e -s"
        target = f"{known['ansible_user']}@{known['ansible_host']}"
        return output(*command, target, f"sudo {interpreter} {' '.join(arguments)}", stdin=script)

    def playbook(self, name: str, *more: str) -> tuple[float, str]:
        """(seconds, output) of one playbook."""
        start = time.monotonic()
        text = output(str(BIN / "ansible-playbook"), f"playbooks/{name}.yml", "-i", self.inventory, *more)
        return time.monotonic() - start, text

    def reset(self) -> None:
        """Take k3s off all hosts, be it the role's or the floor's."""
        self.playbook("reset", "-e", json.dumps({"skerry_reset_parts": ["k3s"], "skerry_reset_confirm": True}))


def floor(hosts: Hosts) -> list[float]:
    """Seconds until the server, and until all nodes, are Ready. The role places the binary, plain units start it."""
    hosts.playbook("cluster", "--tags", "k3s_install")
    server = hosts.vars[hosts.servers[0]]["ansible_host"]
    oom = 'version = 3\n[plugins."io.containerd.cri.v1.runtime"]\nrestrict_oom_score_adj = true\n'
    for host in hosts.servers + hosts.agents:
        role = "server" if host in hosts.servers else "agent"
        config = {"token": TOKEN, "node-name": host, "kubelet-arg": ["fail-cgroupv1=false"]}
        if role == "server":
            config |= {
                "flannel-backend": hosts.vars[host].get("k3s_flannel_backend", "vxlan"),
                "disable": hosts.vars[host].get("k3s_disable", []),
            }
        else:
            config["server"] = f"https://{server}:6443"
        files = {
            "/etc/rancher/k3s/config.yaml": json.dumps(config),
            "/etc/systemd/system/k3s-floor.service": UNIT.format(role=role),
            "/etc/skerry/containerd/floor.toml": oom,
            TEMPLATE_FILE: TEMPLATE,
        }
        script = "".join(
            f"mkdir -p {Path(path).parent}; cat > {path} <<'EOF'\n{text}\nEOF\n" for path, text in files.items()
        )
        hosts.ssh(host, script + "systemctl daemon-reload\n")
    with ThreadPoolExecutor() as pool:
        times = pool.submit(hosts.ssh, hosts.servers[0], POLL, str(len(hosts.servers + hosts.agents)))
        list(
            pool.map(lambda host: hosts.ssh(host, "systemctl start --no-block k3s-floor"), hosts.servers + hosts.agents)
        )
        found: list[float] = json.loads(times.result())
    for host in hosts.servers + hosts.agents:
        hosts.ssh(
            host,
            "systemctl stop k3s-floor; rm -f /etc/systemd/system/k3s-floor.service /etc/skerry/containerd/floor.toml",
        )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", "--inventory", required=True)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    hosts = Hosts(options.inventory)
    floors, firsts, seconds = [], [], []
    for number in range(1, options.runs + 1):
        hosts.reset()
        floors.append(floor(hosts))
        hosts.reset()
        firsts.append(hosts.playbook("cluster")[0])
        took, text = hosts.playbook("cluster")
        seconds.append(took)
        if re.search(r"changed=[1-9]", text):
            sys.exit("the second run changed something:\n" + text[-2000:])
        print(
            f"run {number}: floor: server {floors[-1][0]:.1f} s, all {floors[-1][1]:.1f} s; "
            f"role: first {firsts[-1]:.1f} s, again {took:.1f} s",
            flush=True,
        )
    low = statistics.median(one[1] for one in floors)
    first, again = statistics.median(firsts), statistics.median(seconds)
    print(
        f"median: floor {low:.1f} s, role {first:.1f} s ({first / low:.2f} times, aim 1.25),"
        f" again {again:.1f} s (aim 8)"
    )


if __name__ == "__main__":
    main()
