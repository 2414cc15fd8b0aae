"""A real HTTP server on loopback and a way to run one Ansible task on this machine."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from skerry import paths


@dataclass
class Site:
    """Files below ``url``; ``requests`` has (path, Range header), ``cut`` ends an answer after that many bytes."""

    root: Path
    url: str
    requests: list[tuple[str, str]] = field(default_factory=list)
    cut: dict[str, int] = field(default_factory=dict)

    def put(self, path: str, content: bytes) -> str:
        """Serve ``content`` at ``path``; returns the address."""
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return f"{self.url}/{path.replace('+', '%2B')}"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files with ranges, and broken connections on demand."""

    site: Site

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        ranged = self.headers.get("Range", "")
        self.site.requests.append((self.path, ranged))
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        start = int(ranged.removeprefix("bytes=").rstrip("-")) if ranged else 0
        if ranged and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if ranged else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        cut = self.site.cut.pop(self.path, None)
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, *_arguments: Any) -> None:
        """Tests look at ``Site.requests`` instead."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    root = tmp_path / "site"
    root.mkdir()
    handler = type("SiteHandler", (Handler,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(root)))
    handler.site = Site(root, f"http://127.0.0.1:{server.server_address[1]}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield handler.site  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


def sha256(content: bytes) -> str:
    """Hex digest of some bytes."""
    return hashlib.sha256(content).hexdigest()


Task = Callable[..., dict[str, Any]]


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """Run one task of a module of ours on this machine: task(module, arguments, check=False) -> its result."""
    inventory = tmp_path / "inventory"
    inventory.write_text(f"here ansible_connection=local ansible_python_interpreter={sys.executable}\n")

    def run(module: str, arguments: dict[str, Any], check: bool = False) -> dict[str, Any]:
        play = tmp_path / "play.yml"
        play.write_text(json.dumps([{
            "hosts": "all", "gather_facts": False, "tasks": [{"name": "Do it", f"skerry.edge.{module}": arguments}],
        }]))
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), str(play), "--diff"]
        environment = {
            **os.environ, "ANSIBLE_CONFIG": str(paths.root() / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_CACHE_PLUGIN": "memory",
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"), "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
        }
        done = subprocess.run(
            [*command, "--check"] if check else command, env=environment, capture_output=True, text=True, check=False
        )
        assert "{" in done.stdout, done.stderr
        answer = json.loads(done.stdout[done.stdout.index("{"):])
        result: dict[str, Any] = answer["plays"][0]["tasks"][0]["hosts"]["here"]
        return result

    return run
