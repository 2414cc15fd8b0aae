"""A small client of an API server, for tests: one connection a thread, answers as they came."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.testing.kube.certificates import Pair

Object = dict[str, Any]
APPLY = "application/apply-patch+yaml"
TIMEOUT = 30.0

@dataclass(frozen=True)
class Answer:
    """One answer: the status and the decoded body (a `Status` object when the server refused)."""

    status: int
    body: Object

    @property
    def message(self) -> str:
        """Why the server refused; empty otherwise."""
        return str(self.body.get("message", "")) if self.status >= 400 else ""


class Client:
    """Speaks to the API server at ``port`` of this machine as the user of ``pair``."""

    def __init__(self, port: int, authority: Path, pair: Pair) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(authority))
        self._context.load_cert_chain(str(pair.certificate), str(pair.key))
        self._local = threading.local()
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}

    def _connection(self) -> http.client.HTTPSConnection:
        found: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
        if found is None:
            found = http.client.HTTPSConnection("127.0.0.1", self._port, context=self._context, timeout=TIMEOUT)
            self._local.connection = found
        return found

    def ask(self, method: str, path: str, body: Object | None = None, kind: str = "application/json") -> Answer:
        """One request.

        Raises:
            OSError: nobody answers.
        """
        reused = getattr(self._local, "connection", None) is not None
        connection = self._connection()
        text = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, text, {"Accept": "application/json", "Content-Type": kind})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._local.connection = None
            if reused and isinstance(error, http.client.RemoteDisconnected):  # it was idle for more than 90 s
                return self.ask(method, path, body, kind)
            raise ConnectionError(f"{method} {path}: {error}") from error
        try:
            decoded = json.loads(content)
        except ValueError:
            decoded = {"message": content.decode("utf-8", "replace")}
        return Answer(answer.status, decoded if isinstance(decoded, dict) else {"value": decoded})

    def get(self, path: str) -> Object:
        """An object or a list.

        Raises:
            RuntimeError: the server refused.
        """
        return self._accepted(self.ask("GET", path), path)

    def _kind(self, version: str, kind: str) -> tuple[str, bool]:
        """(plural, belongs to a namespace) of a kind, as the server says."""
        if (version, kind) not in self._kinds:
            base = f"/apis/{version}" if "/" in version else f"/api/{version}"
            for found in self.get(base)["resources"]:
                if "/" not in found["name"]:
                    self._kinds[version, found["kind"]] = (found["name"], found["namespaced"])
        if (version, kind) not in self._kinds:
            raise RuntimeError(f"the server knows no {kind} of {version}")
        return self._kinds[version, kind]

    def path_of(self, item: Object) -> str:
        """The address of an object: ``/apis/apps/v1/namespaces/x/deployments/y``.

        Raises:
            RuntimeError: the server does not know the kind.
        """
        version, metadata = item["apiVersion"], item["metadata"]
        plural, namespaced = self._kind(version, item["kind"])
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        where = f"/namespaces/{metadata.get('namespace', 'default')}" if namespaced else ""
        return f"{base}{where}/{plural}/{metadata['name']}"

    def create(self, item: Object) -> Answer:
        """Create an object; the answer says whether it was."""
        return self.ask("POST", self.path_of(item).rpartition("/")[0], item)

    def apply(self, item: Object, manager: str = "skerry", dry_run: bool = False) -> Answer:
        """Server-side apply with strict validation: a field that the schema does not have is refused."""
        query = f"?fieldManager={manager}&fieldValidation=Strict&force=true" + ("&dryRun=All" if dry_run else "")
        return self.ask("PATCH", self.path_of(item) + query, item, APPLY)

    def delete(self, item: Object) -> Answer:
        """Delete an object."""
        return self.ask("DELETE", self.path_of(item))

    def create_many(self, items: Iterable[Object], threads: int = 8) -> None:
        """Create objects, several at a time.

        Raises:
            RuntimeError: the server refused one.
        """
        with ThreadPoolExecutor(threads) as pool:
            for item, answer in zip(items := list(items), pool.map(self.create, items), strict=True):
                self._accepted(answer, self.path_of(item))

    @staticmethod
    def _accepted(answer: Answer, path: str) -> Object:
        if answer.status >= 400:
            raise RuntimeError(f"{path}: {answer.status} {answer.message}")
        return answer.body
