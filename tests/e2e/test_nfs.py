"""What nfs_provisioner builds on, for real: Ganesha from Debian's packages with the settings that the role gives it.

libnfs's tools are the clients, on two hosts. Then the role's part for nodes, and whether a kernel can mount at all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from own_hosts import HOSTS, SANDBOX, OwnHosts
from playbooks import play as run
from support_record import Support

pytestmark = [pytest.mark.hosts, pytest.mark.own_hosts, pytest.mark.timeout(600)]

EXPORTS = "/var/lib/skerry-nfs"
SERVER = SANDBOX.address(HOSTS["good"][0])
APT = "DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0"
#: As the provisioner writes it with `device-based-fsids=false`. The grace period is short, and the server goes on where
#: CAP_SYS_RESOURCE is missing (the chart gives it).
CONFIGURATION = """
EXPORT { Export_Id = 0; Path = /; Pseudo = /; Protocols = 4; Access_Type = MDONLY_RO; Filesystem_Id = 152.152;
         FSAL { Name = PSEUDO; } }
NFS_Core_Param { MNT_Port = 20048; NLM_Port = 32803; fsid_device = false; allow_set_io_flusher_fail = true; }
NFSV4 { Lease_Lifetime = 4; Grace_Period = 5; }
"""
EXPORT = """
EXPORT { Export_Id = %(id)d; Path = %(path)s; Pseudo = %(path)s; Access_Type = RW; Squash = no_root_squash;
         SecType = sys; Filesystem_id = %(id)d.%(id)d; FSAL { Name = VFS; } }
"""


@dataclass(frozen=True)
class Ganesha:
    """The server on host `good` with the exports of two volumes."""

    hosts: OwnHosts

    def url(self, volume: str, name: str = "", version: int = 4) -> str:
        """How libnfs's tools name a file of a volume."""
        return f"'nfs://{SERVER}{EXPORTS}/{volume}{'/' + name if name else ''}?version={version}'"

    def write(self, host: str, volume: str, name: str, text: str, version: int = 4) -> None:
        """Write a file from a host; while the server is in its grace period, again."""
        command = f"printf '%s' '{text}' > /var/tmp/sent && nfs-cp /var/tmp/sent {self.url(volume, name, version)}"
        deadline = time.monotonic() + 60
        while "copied" not in self.hosts.on(host, f"({command}) 2>&1 || true"):
            assert time.monotonic() < deadline, self.hosts.on(host, f"({command}) 2>&1 || true")
            time.sleep(1)

    def read(self, host: str, volume: str, name: str, version: int = 4) -> str:
        """A file as a host sees it; while the server is in its grace period, again."""
        deadline = time.monotonic() + 60
        while "GRACE" in (found := self.hosts.on(host, f"nfs-cat {self.url(volume, name, version)} 2>&1 || true")):
            assert time.monotonic() < deadline, found
            time.sleep(1)
        return found

    def restart(self) -> None:
        """Stop the server and start it again, as when its pod is replaced."""
        self.hosts.on("good", "systemctl stop skerry-ganesha")
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.hosts.on("good", "systemctl reset-failed skerry-ganesha 2>/dev/null || true; systemd-run --quiet --unit "
                      "skerry-ganesha ganesha.nfsd -F -L /var/log/skerry-ganesha.log -p /run/skerry-ganesha.pid -f "
                      f"{EXPORTS}.conf")  # fmt: skip
        deadline = time.monotonic() + 60
        while "INITIALIZED" not in self.hosts.on(
            "good", "cat /var/log/skerry-ganesha.log; : > /var/log/skerry-ganesha.log"
        ):
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.5)


@pytest.fixture(scope="module")
def ganesha(own_hosts: OwnHosts) -> Iterator[Ganesha]:
    """Ganesha on `good`, tools on `good` and `cut`; both are taken back."""
    server, tools = "nfs-ganesha nfs-ganesha-vfs rpcbind", "libnfs-utils"
    for host, packages in (("good", f"{server} {tools}"), ("cut", tools)):
        command = f"{APT} update && {APT} install -y --no-install-recommends {packages}"
        said = own_hosts.on(host, f"({command}) 2>&1 || echo no", check=False)
        if said.rstrip().endswith("no"):
            pytest.skip(f"Debian's packages cannot be had on the sandbox hosts: {said[-200:]}")
    exports = "".join(EXPORT % {"id": number, "path": f"{EXPORTS}/pvc-{number}"} for number in (1, 2))
    own_hosts.on("good", "systemctl disable --now nfs-ganesha 2>/dev/null || true")
    own_hosts.on("good", f"mkdir -p {EXPORTS}/pvc-1 {EXPORTS}/pvc-2; chmod 0777 {EXPORTS}/pvc-*")
    own_hosts.on("good", f"cat > {EXPORTS}.conf <<'END'\n{CONFIGURATION}{exports}\nEND\n")
    running = Ganesha(own_hosts)
    running.start()
    yield running
    own_hosts.on(
        "good", f"systemctl stop skerry-ganesha; rm -rf {EXPORTS} {EXPORTS}.conf; {APT} purge -y {server} {tools}"
    )
    own_hosts.on("cut", f"{APT} purge -y {tools}")


def test_two_hosts_share_a_volume(ganesha: Ganesha, support: Support) -> None:
    ganesha.write("cut", "pvc-1", "from-cut", "written on cut")
    ganesha.write("good", "pvc-1", "from-good", "written on good")
    assert ganesha.read("good", "pvc-1", "from-cut") == "written on cut"
    assert ganesha.read("cut", "pvc-1", "from-good") == "written on good"
    ganesha.write("cut", "pvc-1", "old-protocol", "version 3", version=3)
    assert ganesha.read("good", "pvc-1", "old-protocol") == "version 3"
    support("nfs", "Debian 13", "amd64", "ran here", "Ganesha and libnfs: two hosts read what the other wrote")


def test_volumes_are_apart(ganesha: Ganesha) -> None:
    ganesha.write("cut", "pvc-2", "secret", "mine")
    listed = ganesha.hosts.on("cut", f"nfs-ls {ganesha.url('pvc-1')}")
    assert "secret" not in listed
    refused = ganesha.hosts.on("cut", f"nfs-ls {ganesha.url('pvc-3')} 2>&1 || echo refused")
    assert refused.rstrip().endswith("refused")


def test_data_and_export_numbers_outlive_the_server(ganesha: Ganesha) -> None:
    ganesha.write("cut", "pvc-1", "kept", "still here")
    ganesha.restart()
    assert ganesha.read("cut", "pvc-1", "kept") == "still here"
    ganesha.write("good", "pvc-1", "after", "and writable again")  # once the grace period is over
    assert ganesha.read("cut", "pvc-1", "after") == "and writable again"


def play(own_hosts: OwnHosts, folder: Path) -> dict[str, dict[str, int]]:
    """Run the role's part for nodes on a Debian 12 and a Debian 13 host; the recap by host."""
    wanted = {"nfs_provisioner_state": "present"}
    inventory = own_hosts.inventory("nfs", {"good": wanted, "bad": wanted})
    task = {
        "name": "Prepare the node",
        "ansible.builtin.import_role": {"name": "nfs_provisioner", "tasks_from": "clients.yml"},
    }
    verdict = {
        "content": "{{ __nfs_provisioner_client | to_json }}",
        "dest": "/var/tmp/nfs-client.json",
        "mode": "0644",
    }
    shown = {"name": "Show", "ansible.builtin.copy": verdict}
    book = folder / "nodes.yml"
    book.write_text(yaml.safe_dump([{"name": "Nodes", "hosts": "good:bad", "gather_facts": False, "become": True,
                                     "tasks": [task, shown]}]))  # fmt: skip
    done = run(book, inventory, timeout=300)
    assert done.code == 0, done.output[-4000:]
    return done.recaps()


def test_nodes_get_what_mounts(own_hosts: OwnHosts, tmp_path: Path) -> None:
    try:
        first = play(own_hosts, tmp_path)
        assert {host: counts["failed"] for host, counts in first.items()} == {"good": 0, "bad": 0}
        again = play(own_hosts, tmp_path)
        assert {host: counts["changed"] for host, counts in again.items()} == {"good": 0, "bad": 0}
        for host in ("good", "bad"):
            own_hosts.on(host, "test -x /sbin/mount.nfs4")
    finally:
        for host in ("good", "bad"):
            own_hosts.on(host, f"{APT} purge -y nfs-common", check=False)


def test_the_verdict_about_the_kernel_is_what_a_mount_says(
    own_hosts: OwnHosts, ganesha: Ganesha, tmp_path: Path
) -> None:
    """The role's look (module nfs_client) against a mount that is really tried."""
    try:
        play(own_hosts, tmp_path)
        verdict = yaml.safe_load(own_hosts.on("good", "cat /var/tmp/nfs-client.json"))
        mount = f"mount -t nfs -o nfsvers=4.1,timeo=50,retrans=1 {SERVER}:{EXPORTS}/pvc-1 /mnt"
        said = own_hosts.on("good", f"{mount} 2>&1 && {{ echo mounted; umount /mnt; }} || true")
        assert verdict["able"] == ("mounted" in said), (verdict, said)
        if not verdict["able"]:
            assert "No such device" in said, said
            pytest.skip(f"a pod's mount cannot be tried: {verdict['reason']}")
    finally:
        for host in ("good", "bad"):
            own_hosts.on(host, f"{APT} purge -y nfs-common", check=False)
