"""Serves the controller over standard input and output: one exchange, JSON lines both ways, files between them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from . import PROTOCOL, apply, images, processes, records, status, store, systemd, units
from .faults import HostError

Message = dict[str, Any]


class Server:
    """One exchange with the controller: JSON lines both ways, files between them as zlib streams."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self.source, self.sink = source, sink

    def send(self, message: Message) -> None:
        self.sink.write(json.dumps(message).encode() + b"\n")
        self.sink.flush()

    def messages(self) -> Iterator[Message]:
        """What the controller asks for, until it closes the connection."""
        for line in iter(self.source.readline, b""):
            yield json.loads(line)

    def serve(self) -> None:
        """Answer until the end of input."""
        self.send({"protocol": PROTOCOL, "host": status.host()})
        for message in self.messages():
            try:
                getattr(self, "do_" + message["op"])(message)
            except HostError as error:
                self.send({"error": error.as_dict()})
            self.send({"done": message["op"]})

    def do_status(self, _message: Message) -> None:
        self.send({"workloads": status.workloads()})

    def do_plan(self, message: Message) -> None:
        for entry in apply.plan(message["workloads"], message["owner"], message["names"], message["prune"]):
            self.send({"result": entry})

    def do_files(self, message: Message) -> None:
        """Say which files are lacking, then take them."""
        lacking = store.lacking(message["digests"])
        self.send({"lacking": lacking})
        try:
            for _ in lacking:
                header = json.loads(self.source.readline())
                store.take(self.source, header["digest"], header["packed"])
        except HostError as error:
            self.send({"error": error.as_dict()})
            raise SystemExit(1) from error  # what is still under way is no message

    def do_desired(self, _message: Message) -> None:
        """What this host was told to have."""
        for name in records.names():
            self.send({"desired": records.current(name)})

    def do_images(self, message: Message) -> None:
        """Say which images are here; with ``pull`` let Docker fetch what is not."""
        for asked in message["images"]:
            here = images.look(asked, message["brought"])
            if not here and message["pull"]:
                for _ in images.pull(asked):
                    self.send({"pulling": asked["image"]})
                here = images.look(asked, False)
            self.send({"image": asked["image"], "here": here})

    def do_apply(self, message: Message) -> None:
        given = (message[key] for key in ("workloads", "secrets", "owner", "names", "prune"))
        for entry in apply.apply(*given):
            self.send({"result": entry})

    def do_remove(self, message: Message) -> None:
        for entry in apply.undeploy(message["names"]):
            self.send({"result": entry})

    def do_rollback(self, message: Message) -> None:
        self.send({"result": apply.rollback(message["name"], message["revision"])})

    def do_restart(self, message: Message) -> None:
        for name in message["names"]:
            desired = records.current(name)
            if desired is None:
                self.send({"result": apply.outcome(name, "absent")})
            elif desired["kind"] != "service":
                self.send({"result": apply.outcome(name, "not a service")})
            else:
                with records.locked():
                    processes.start(desired, again=True)
                    processes.enable(desired)
                    processes.retire(desired, [])
                self.send({"result": apply.outcome(name, "restarted")})

    def do_run(self, message: Message) -> None:
        """Run a job or a schedule once more, now."""
        desired = records.current(message["name"])
        if desired is None or desired["kind"] not in ("job", "schedule"):
            self.send({"result": apply.outcome(message["name"], "absent")})
            return
        unit = units.service(desired)
        before = systemd.show([unit])[unit]
        if before["ActiveState"] in ("active", "activating"):
            raise HostError("HOST_026", f"{desired['name']} runs already", "wait for its end")
        systemd.call("reset-failed", unit, check=False)
        systemd.call("start", "--no-block", unit)
        deadline, invocation = time.monotonic() + 10, ""
        while invocation in ("", before["InvocationID"]) and time.monotonic() < deadline:
            time.sleep(0.02)
            invocation = systemd.show([unit])[unit]["InvocationID"]
        self.send({"result": apply.outcome(desired["name"], "started", invocation=invocation)})

    def do_logs(self, message: Message) -> None:
        """Lines of a workload as they were printed, then as they come when they are to be followed."""
        command = ["journalctl", "--no-pager", "-q", "-o", "json", "--output-fields=MESSAGE,_SYSTEMD_INVOCATION_ID"]
        command += ["-t", "skerry-" + message["name"]]
        command += ["--since", message["since"]] if message.get("since") else []
        command += ["-n", str(message["lines"])] if message.get("lines") is not None else []
        command += ["-f"] if message.get("follow") else []
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            for line in process.stdout or ():
                entry = json.loads(line)
                said = entry.get("MESSAGE", "")
                text = bytes(said).decode("utf-8", "replace") if isinstance(said, list) else said
                self.send({"line": text, "at": int(entry["__REALTIME_TIMESTAMP"]) / 1e6,
                           "invocation": entry.get("_SYSTEMD_INVOCATION_ID")})
