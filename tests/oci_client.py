"""A client of the OCI distribution API for tests: blobs and manifests over TLS with a login (standard library)."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
import tarfile
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
WASM_CONFIG = "application/vnd.wasm.config.v0+json"
WASM_LAYER = "application/wasm"


def digest_of(content: bytes) -> str:
    """``sha256:<hex>``."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass
class Answer:
    """One answer of the registry."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Registry:
    """A registry at ``address`` (host:port), trusted through ``ca`` (PEM) alone; ``login``: (user, password)."""

    address: str
    ca: str
    login: tuple[str, str] | None = None
    _connection: http.client.HTTPSConnection | None = field(default=None, repr=False)

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        """One request; the status is for the caller to judge."""
        if self._connection is None:
            context = ssl.create_default_context(cadata=self.ca)
            self._connection = http.client.HTTPSConnection(self.address, context=context, timeout=20)
        sent = dict(headers or {})
        if self.login:
            sent["Authorization"] = "Basic " + base64.b64encode(":".join(self.login).encode()).decode()
        self._connection.request(method, path, body=body, headers=sent)
        answer = self._connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, names, answer.read())

    def push_blob(self, name: str, content: bytes) -> str:
        """Push a blob in one piece; returns its digest."""
        digest = digest_of(content)
        begun = self.ask("POST", f"/v2/{name}/blobs/uploads/")
        assert begun.status == 202, begun
        place = urllib.parse.urlsplit(begun.headers["location"])
        query = "&".join(part for part in (place.query, "digest=" + urllib.parse.quote(digest)) if part)
        done = self.ask("PUT", f"{place.path}?{query}", content, {"Content-Type": "application/octet-stream"})
        assert done.status == 201, done
        return digest

    def push_manifest(self, name: str, tag: str, manifest: dict[str, Any]) -> str:
        """Push a manifest; returns its digest."""
        content = json.dumps(manifest, sort_keys=True).encode()
        done = self.ask("PUT", f"/v2/{name}/manifests/{tag}", content, {"Content-Type": manifest["mediaType"]})
        assert done.status == 201, done
        return digest_of(content)

    def push_wasm(self, name: str, tag: str, module: bytes) -> str:
        """Push a module as a wasm OCI artifact (media types of the CNCF's guidance); its manifest's digest."""
        config = json.dumps({"architecture": "wasm", "os": "wasip1", "layerDigests": [digest_of(module)]}).encode()
        parts = [(WASM_CONFIG, config), (WASM_LAYER, module)]
        items = [{"mediaType": kind, "digest": self.push_blob(name, blob), "size": len(blob)} for kind, blob in parts]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": items[0], "layers": items[1:]}
        return self.push_manifest(name, tag, manifest)

    def push_archive(self, name: str, tag: str, archive: Path) -> str:
        """Push the image of an OCI layout in a tar (skerry.images writes such); its manifest's digest."""
        with tarfile.open(archive) as tar:
            blobs = {
                "sha256:" + Path(member.name).name: tar.extractfile(member).read()  # type: ignore[union-attr]
                for member in tar.getmembers() if member.isfile() and member.name.startswith("blobs/sha256/")
            }
            index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
        manifest = json.loads(blobs[index["manifests"][0]["digest"]])
        for item in (manifest["config"], *manifest["layers"]):
            assert self.push_blob(name, blobs[item["digest"]]) == item["digest"]
        content = blobs[index["manifests"][0]["digest"]]
        done = self.ask("PUT", f"/v2/{name}/manifests/{tag}", content, {"Content-Type": manifest["mediaType"]})
        assert done.status == 201, done
        return digest_of(content)

    def pull(self, name: str, reference: str) -> tuple[dict[str, Any], list[bytes]]:
        """(manifest, layers) of what a tag or digest names, every digest checked."""
        found = self.ask("GET", f"/v2/{name}/manifests/{reference}", headers={"Accept": MANIFEST})
        assert found.status == 200, found
        manifest = json.loads(found.body)
        layers = []
        for item in manifest["layers"]:
            blob = self.ask("GET", f"/v2/{name}/blobs/{item['digest']}")
            assert blob.status == 200, blob
            assert digest_of(blob.body) == item["digest"]
            layers.append(blob.body)
        return manifest, layers
