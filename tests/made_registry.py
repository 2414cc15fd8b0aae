"""A small OCI registry and chart server of the tests' own, with images and charts made by hand."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CHART_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


def sha256(content: bytes) -> str:
    """Digest as registries write it."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def tar_of(files: Mapping[str, bytes], mode: int = 0o755) -> bytes:
    """A tar with these files, always the same bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


@dataclass
class Registry:
    """What is served. Paths are those of the registry's API; ``requests`` has (method, path, Range, Authorization)."""

    url: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, str, str]] = field(default_factory=list)
    #: {path: bytes after which the answer breaks, once}
    cut: dict[str, int] = field(default_factory=dict)
    #: "" (open), "token" (a bearer token is asked for), or "basic" (user and password).
    login: str = ""
    user: str = "site:secret"
    #: The address in references leads on to this one, as the fronts of some makers do; only there a login is asked for.
    behind: str = ""

    @property
    def host(self) -> str:
        """As it stands in references."""
        return self.url.removeprefix("http://")

    def _blob(self, content: bytes) -> dict[str, Any]:
        digest = sha256(content)
        self.blobs[digest] = content
        return {"digest": digest, "size": len(content)}

    def _manifest(self, repository: str, media_type: str, content: dict[str, Any], *names: str) -> dict[str, Any]:
        raw = json.dumps(content, sort_keys=True).encode()
        for name in (*names, sha256(raw)):
            self.manifests[(repository, name)] = (media_type, raw)
        return {"mediaType": media_type, "digest": sha256(raw), "size": len(raw)}

    def image(self, repository: str, tag: str, files: Mapping[str, Mapping[str, bytes]], command: str = "/x") -> str:
        """Push an image for several architectures ({arch: files}); one architecture makes no index. Its digest."""
        made = []
        for arch, content in files.items():
            layer = tar_of(content)
            config = {
                "architecture": arch, "os": "linux", "config": {"Entrypoint": [command]},
                "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]},
            }
            manifest = {
                "schemaVersion": 2, "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, **self._blob(json.dumps(config).encode())},
                "layers": [{"mediaType": LAYER, **self._blob(gzip.compress(layer, mtime=0))}],
            }
            tags = (tag,) if len(files) == 1 else ()
            descriptor = self._manifest(repository, MANIFEST, manifest, *tags)
            made.append({**descriptor, "platform": {"architecture": arch, "os": "linux"}})
        if len(made) == 1:
            return str(made[0]["digest"])
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": made}
        return str(self._manifest(repository, INDEX, index, tag)["digest"])

    def image_of_archive(self, repository: str, tag: str, archive: Path) -> None:
        """Push the image of a tar of `docker save`."""
        with tarfile.open(archive) as tar:

            def read(name: str) -> bytes:
                stream = tar.extractfile(name)
                assert stream is not None, name
                return stream.read()

            (image,) = json.loads(read("manifest.json"))
            layers = [{"mediaType": LAYER.removesuffix("+gzip"), **self._blob(read(name))} for name in image["Layers"]]
            config = {"mediaType": CONFIG, **self._blob(read(image["Config"]))}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        self._manifest(repository, MANIFEST, manifest, tag)

    def chart_in_registry(self, repository: str, version: str, archive: bytes) -> None:
        """Push a chart as an OCI artifact."""
        manifest = {
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", **self._blob(b"{}")},
            "layers": [{"mediaType": CHART_LAYER, **self._blob(archive)}],
        }
        self._manifest(repository, MANIFEST, manifest, version)

    def chart_in_repository(self, folder: str, name: str, version: str, archive: bytes) -> str:
        """Serve a chart in an http repository; returns the repository's address."""
        path = f"/{folder}/{name}-{version}.tgz"
        self.files[path] = archive
        entry = {
            "apiVersion": "v2", "name": name, "version": version, "urls": [f"{name}-{version}.tgz"],
            "digest": hashlib.sha256(archive).hexdigest(),
        }
        known = yaml.safe_load(self.files.get(f"/{folder}/index.yaml", b"entries: {}"))["entries"]
        known.setdefault(name, []).insert(0, entry)
        self.files[f"/{folder}/index.yaml"] = yaml.safe_dump({"apiVersion": "v1", "entries": known}).encode()
        return f"{self.url}/{folder}"


def chart(name: str, version: str, values: dict[str, Any], templates: Mapping[str, str]) -> bytes:
    """The archive of a chart."""
    head = {"apiVersion": "v2", "name": name, "version": version, "appVersion": version, "type": "application"}
    files = {f"{name}/Chart.yaml": yaml.safe_dump(head), f"{name}/values.yaml": yaml.safe_dump(values)}
    files.update({f"{name}/templates/{path}": text for path, text in templates.items()})
    return gzip.compress(tar_of({path: text.encode() for path, text in files.items()}, 0o644), mtime=0)


def deployment(container: str) -> str:
    """A chart's manifest of a Deployment; ``container`` is YAML in one line. Lines for its pod may be added."""
    return f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: app}}
spec:
  selector: {{matchLabels: {{app: x}}}}
  template:
    metadata: {{labels: {{app: x}}}}
    spec:
      containers:
      - {container}
"""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Registry

    def _allowed(self) -> bool:
        registry = self.registry
        given = self.headers.get("Authorization", "")
        basic = "Basic " + base64.b64encode(registry.user.encode()).decode()
        if registry.login == "basic" and given != basic:
            self._answer(401, b"", {"Www-Authenticate": 'Basic realm="site"'})
            return False
        if registry.login == "token" and given != "Bearer good":
            challenge = f'Bearer realm="{registry.url}/token",service="site",scope="repository:x:pull"'
            self._answer(401, b"", {"Www-Authenticate": challenge})
            return False
        return True

    def _answer(self, code: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        ranged = self.headers.get("Range", "")
        if code == 200 and ranged:
            body, code = body[int(ranged.removeprefix("bytes=").rstrip("-")):], 206
        self.send_response(code)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.registry.cut.pop(self.path, None)
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True

    def do_GET(self) -> None:
        registry = self.registry
        path = self.path.partition("?")[0]
        registry.requests.append(
            (self.command, self.path, self.headers.get("Range", ""), self.headers.get("Authorization", ""))
        )
        if path == "/token":
            self._answer(200, b'{"token": "good"}', {"Content-Type": "application/json"})
        elif path in registry.files:
            self._answer(200, registry.files[path])
        elif not path.startswith("/v2/"):
            self._answer(404, b"")
        elif registry.behind and self.headers["Host"] != registry.behind:
            leads = path.rpartition("/")[0].endswith("manifests")
            place = {"Location": f"http://{registry.behind}{path}"} if leads else {}
            self._answer(307 if leads else 200, b"", place)
        elif self._allowed():
            self._api(path.removeprefix("/v2/"))

    def do_HEAD(self) -> None:
        self.do_GET()

    def _api(self, path: str) -> None:
        repository, _, name = path.rpartition("/")
        repository, _, kind = repository.rpartition("/")
        if not path:
            self._answer(200, b"{}")
        elif kind == "manifests" and (repository, name) in self.registry.manifests:
            media_type, raw = self.registry.manifests[(repository, name)]
            self._answer(200, raw, {"Content-Type": media_type, "Docker-Content-Digest": sha256(raw)})
        elif kind == "blobs" and name in self.registry.blobs:
            self._answer(200, self.registry.blobs[name])
        else:
            self._answer(404, b'{"errors": [{"code": "NOT_FOUND"}]}')

    def log_message(self, *_arguments: Any) -> None:
        """Tests look at ``Registry.requests`` instead."""


@contextmanager
def serving(address: str = "127.0.0.1") -> Iterator[Registry]:
    """A registry that answers on a free port of ``address``."""
    registry = Registry()
    handler = type("Handler", (_Handler,), {"registry": registry})
    server = http.server.ThreadingHTTPServer((address, 0), handler)
    registry.url = f"http://{address}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
