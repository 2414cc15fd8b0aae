"""Images that others made: found in this host's Docker or pulled by it, known by their ids, removed when unused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from . import docker_api, places
from .faults import HostError

#: reference -> {"id": of the image in Docker, "ours": whether it came for a workload}
Notes = dict[str, dict[str, Any]]
#: Why an image did not come, for the workload that needs it.
_why: dict[str, HostError] = {}


def _notes() -> Notes:
    try:
        found: Notes = json.loads((places.STATE / "images.json").read_text())
    except FileNotFoundError:
        return {}
    return found


def _note(reference: str, image: str, ours: bool) -> None:
    notes = _notes()
    was = notes.get(reference, {})
    notes[reference] = {"id": image, "ours": ours or bool(was.get("ours") and was.get("id") == image)}
    places.write(places.STATE / "images.json", json.dumps(notes, indent=1, sort_keys=True), 0o600)


def _found(asked: dict[str, Any]) -> str:
    """The image's id; "" when it is not here. What has the tag counts when its content is known to be the same."""
    if asked["by_digest"]:
        there = docker_api.image(asked["by_digest"])
        if there is not None:
            return str(there["Id"])
    there = docker_api.image(asked["by_tag"]) if asked["by_tag"] else None
    if there is not None and (not asked["by_digest"] or there["Id"] in asked["ids"]):
        return str(there["Id"])
    return ""


def look(asked: dict[str, Any], brought: bool) -> bool:
    """Whether an image is here; noted when it is. ``brought``: it has just been loaded for a workload."""
    found = _found(asked)
    if found:
        _note(asked["image"], found, brought)
        _why.pop(asked["image"], None)
    return bool(found)


def pull(asked: dict[str, Any]) -> Iterator[None]:
    """Let Docker pull an image, a word at a time; a failure is kept for the workload that needs it."""
    headers = {"X-Registry-Auth": asked["login"]} if asked["login"] else {}
    reference = asked["by_digest"] or asked["by_tag"]
    try:
        url = f"/images/create?fromImage={quote(reference, safe='')}"
        for _ in docker_api.progress(url, f"pull {reference}", headers):
            yield
        look(asked, True)
    except HostError as error:
        _why[asked["image"]] = error


def id_of(reference: str) -> str:
    """The id of an image that is here. Raises HostError: HOST_072 it is not, or why it did not come."""
    noted = _notes().get(reference)
    if noted is not None and docker_api.image(noted["id"]) is not None:
        return str(noted["id"])
    raise _why.get(reference) or HostError("HOST_072", f"this host's Docker has no image {reference}",
                                           "deploy again; or load it: skerry image import")  # fmt: skip


def collect(used: set[str]) -> None:
    """Remove images that came for workloads and that no kept revision needs."""
    notes = _notes()
    for reference in set(notes) - used:
        noted = notes.pop(reference)
        kept = {(_repository(one), notes[one]["id"]) for one in used & set(notes)}
        if noted["ours"] and (_repository(reference), noted["id"]) not in kept:
            _remove(noted["id"], _repository(reference))
        places.write(places.STATE / "images.json", json.dumps(notes, indent=1, sort_keys=True), 0o600)


def _repository(reference: str) -> str:
    name = reference.partition("@")[0]
    return name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name


def _remove(image: str, repository: str) -> None:
    """Take an image's names of one repository away; with the last name of all it goes itself."""
    there = docker_api.image(image) or {}
    names = [*(there.get("RepoTags") or []), *(there.get("RepoDigests") or [])]
    short = repository.removeprefix("docker.io/").removeprefix("library/")  # as Docker calls its own registry's
    mine = [name for name in names if _repository(name) in (repository, short)]
    for name in mine if names else [image]:
        try:
            docker_api.request("DELETE", f"/images/{quote(name, safe='/:@')}?force=0", "remove the image")
        except docker_api.DockerError as error:
            if error.status not in (404, 409):  # gone already, or somebody else's container has it
                raise
