"""Starts the programs: etcd, the API server, and what else a test asks for, all on free ports of 127.0.0.1.

    with Cluster(Plan(nodes=3)) as cluster:
        cluster.admin.get("/api/v1/nodes")

Everything lies in one temporary folder and ends with the block.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from skerry.errors import Exit, SkerryError
from skerry.testing.kube import build, simulated
from skerry.testing.kube.certificates import Authority
from skerry.testing.kube.client import Client, Object

READY_TIMEOUT = 90.0
#: Requests a second that controllers and kwok may make: the defaults (20 to 50) are for clusters that last.
RATE = 2000
STAGES = Path(__file__).parent / "stages.yml"
ADMINS = "system:masters"


@dataclass
class Plan:
    """What a cluster consists of.

    Attributes:
        nodes: simulated nodes, Ready when the block begins; kwok runs when there is one, and so does the scheduler.
        controllers: run the controller manager: namespaces get accounts, quotas are counted, Deployments get pods.
        apiserver: further arguments of the API server.
        files: files that those arguments need (relative name -> content); ``{dir}`` in an argument is their folder.
    """

    nodes: int = 0
    controllers: bool = True
    apiserver: Sequence[str] = ()
    files: dict[str, str] = field(default_factory=dict)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def _file_name(user: str) -> str:
    return "user-" + re.sub(r"[^a-z0-9]+", "-", user)


class Cluster:
    """A running cluster.

    Attributes:
        folder: everything that it wrote; ``server/tls`` is laid out as k3s does it.
        port: where the API server listens.
        kubeconfig: the administrator's.
        admin: a client with all rights.
    """

    def __init__(self, plan: Plan | None = None) -> None:
        self.plan = plan or Plan()
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Cluster:
        self.folder = Path(tempfile.mkdtemp(prefix="skerry-kube-"))
        try:
            self._prepare()
            self._start_api()
            if self.plan.controllers:
                self._start_controllers()
            if self.plan.nodes:
                self._start_nodes()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End all processes, the last one first, and remove the folder."""
        for _, process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)  # nothing of it is kept
            process.wait()
        self._processes = []
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self, user: str, *groups: str) -> Client:
        """A client that is ``user``, known by a certificate."""
        return Client(self.port, self._authority.certificate, self._authority.issue(_file_name(user), user, groups))

    def kubeconfig_of(self, user: str, *groups: str) -> Path:
        """A kubeconfig for ``user``."""
        pair = self._authority.issue(_file_name(user), user, groups)
        return self._authority.kubeconfig(self.folder / f"{_file_name(user)}.yaml", pair, self.port)

    def log(self, program: str) -> str:
        """What a program has said."""
        return (self.folder / f"{program}.log").read_text(encoding="utf-8", errors="replace")

    def signal(self, program: str, number: int) -> None:
        """Send a program of this cluster a signal (SIGSTOP makes it hang, SIGKILL ends it)."""
        for name, process in self._processes:
            if name == program:
                process.send_signal(number)

    def wait(self, what: str, done: Callable[[], bool], timeout: float = READY_TIMEOUT) -> None:
        """Poll until ``done``.

        Raises:
            SkerryError: KUBE_004 when it takes too long, KUBE_005 when a program has ended.
        """
        until = time.monotonic() + timeout
        while not done():
            for name, process in self._processes:
                if process.poll() is not None:
                    self._failed("KUBE_005", f"{name} ended with {process.returncode} before {what}", name)
            if time.monotonic() > until:
                self._failed("KUBE_004", f"not {what} after {timeout:.0f} s", "kube-apiserver")
            time.sleep(0.05)

    def _failed(self, code: str, cause: str, name: str) -> None:
        words = "\n".join(self.log(name).splitlines()[-8:])
        raise SkerryError(code, f"{cause}:\n{words}", "run the test again on a machine that does less", Exit.FAILED)

    def _prepare(self) -> None:
        self._authority = Authority(self.folder)
        self.port, self._etcd, self._etcd_peer = free_ports(3)
        self._serving = self._authority.issue("serving-kube-apiserver", "kube-apiserver", server=True)
        self._accounts = self._authority.signing_key("service")
        admin = self._authority.issue("client-admin", "system:admin", [ADMINS])
        self.admin = Client(self.port, self._authority.certificate, admin)
        self.kubeconfig = self._authority.kubeconfig(self.folder / "admin.yaml", admin, self.port)
        for name, content in self.plan.files.items():
            (self.folder / name).write_text(content, encoding="utf-8")

    def _start(self, program: str, *arguments: str) -> None:
        path = build.program(program)
        with (self.folder / f"{program}.log").open("ab") as log:
            # In the session of the test: who ends that ends these too.
            process = subprocess.Popen([path, *arguments], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=subprocess.STDOUT, env={"HOME": str(self.folder), "PATH": os.defpath})
        self._processes.append((program, process))

    def _start_api(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd, self._etcd_peer))
        self._start(
            "etcd", f"--data-dir={self.folder}/etcd",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync", "--quota-backend-bytes=2147483648",
        )  # fmt: skip
        self._start(
            "kube-apiserver", f"--etcd-servers={client}", f"--secure-port={self.port}", "--bind-address=127.0.0.1",
            # Nobody looks for the API server at the address of a loopback.
            "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
            f"--cert-dir={self.folder}/run", f"--tls-cert-file={self._serving.certificate}",
            f"--tls-private-key-file={self._serving.key}", f"--client-ca-file={self._authority.certificate}",
            f"--service-account-key-file={self._accounts.certificate}",
            f"--service-account-signing-key-file={self._accounts.key}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--authorization-mode=Node,RBAC",
            # As k3s runs it.
            "--service-cluster-ip-range=10.43.0.0/16", "--allow-privileged=true",
            "--enable-admission-plugins=NodeRestriction",
            *(argument.format(dir=self.folder) for argument in self.plan.apiserver),
        )  # fmt: skip
        self.wait("ready", self._ready)

    def _ready(self) -> bool:
        try:
            return self.admin.ask("GET", "/readyz").status == 200
        except OSError:
            return False

    def _start_controllers(self) -> None:
        self._start(
            "kube-controller-manager", f"--kubeconfig={self.kubeconfig}", "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self._accounts.key}", f"--root-ca-file={self._authority.certificate}",
            "--leader-elect=false", "--secure-port=0", f"--kube-api-qps={RATE}", f"--kube-api-burst={RATE}",
            "--allocate-node-cidrs=false", "--configure-cloud-routes=false",
        )  # fmt: skip
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self.wait("with its controllers", lambda: self.admin.ask("GET", account).status == 200)

    def _start_nodes(self) -> None:
        self._start(
            "kwok", f"--kubeconfig={self.kubeconfig}", f"--config={STAGES}", "--manage-all-nodes=true",
            "--node-ip=127.0.0.1", "--cidr=10.42.0.0/16", "--node-lease-duration-seconds=120", "--node-port=0",
        )  # fmt: skip
        self._start(
            "kube-scheduler", f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0",
            f"--kube-api-qps={RATE}", f"--kube-api-burst={RATE}",
        )  # fmt: skip
        self.add_nodes([simulated.node(number) for number in range(self.plan.nodes)])

    def add_nodes(self, nodes: Sequence[Object]) -> None:
        """Create nodes and wait until kwok has made them Ready."""
        self.admin.create_many(nodes)
        wanted = {item["metadata"]["name"] for item in nodes}
        timeout = READY_TIMEOUT + 0.1 * len(wanted)
        self.wait(f"with {len(wanted)} Ready nodes", lambda: wanted <= self._ready_nodes(), timeout)

    def _ready_nodes(self) -> set[str]:
        return {
            item["metadata"]["name"]
            for item in self.admin.get("/api/v1/nodes")["items"]
            for condition in item.get("status", {}).get("conditions", [])
            if condition["type"] == "Ready" and condition["status"] == "True"
        }
