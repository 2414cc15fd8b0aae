"""skerry.edge.artifact, run by Ansible itself on this machine: real files, a real server, a really full disk."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from .conftest import Site, Task, sha256

CONTENT = b"#!/bin/sh\necho a tool\n" + os.urandom(200_000)


def entry(path: str, content: bytes, source: str = "local") -> dict[str, Any]:
    component, version, arch, file = path.split("/")
    return {"component": component, "version": version, "arch": arch, "file": file, "sha256": sha256(content),
            "size": len(content), "source": source}


def fill(mirror: Path, files: dict[str, bytes], source: str = "local") -> None:
    """A mirror directory with its lock."""
    for path, content in files.items():
        (mirror / path).parent.mkdir(parents=True, exist_ok=True)
        (mirror / path).write_bytes(content)
    lock = {"format": 1, "artifacts": [entry(path, content, source) for path, content in sorted(files.items())]}
    (mirror / "mirror.lock.json").write_text(json.dumps(lock))


def archive(suffix: str, member: str, content: bytes) -> bytes:
    """An archive whose one member is ``content``, with another file before it."""
    out = io.BytesIO()
    if suffix == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("README", "read me")
            packed.writestr(member, content)
        return out.getvalue()
    mode: Any = {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz", "tar.bz2": "w:bz2", "tar.zst": "w"}[suffix]
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, data in (("README", b"read me"), (member, content)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    if suffix == "tar.zst":
        return subprocess.run(["zstd", "-qc"], input=out.getvalue(), capture_output=True, check=True).stdout
    return out.getvalue()


class Case:
    """Paths of one test, and the arguments of a task for it."""

    def __init__(self, folder: Path) -> None:
        self.mirror = folder / "mirror"
        self.mirror.mkdir()
        self.bin = folder / "host" / "bin"
        self.record = folder / "host" / "record.json"

    def arguments(self, *artifacts: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"mirror": str(self.mirror), "record": str(self.record), "artifacts": list(artifacts), "attempts": 2,
                **more}

    def artifact(self, name: str = "tool", **more: Any) -> dict[str, Any]:
        return {"component": "tool", "version": "v1.0+a", "arch": "amd64", "file": name, "dest": str(self.bin / name),
                "mode": "0755", **more}

    def leftovers(self) -> list[str]:
        """Hidden files beside the places: there must never be one after a run."""
        return [path.name for path in self.bin.glob(".*")] if self.bin.exists() else []


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_a_file_of_a_mirror_directory_is_placed_once(case: Case, task: Task) -> None:
    fill(case.mirror, {"tool/v1.0+a/amd64/tool": CONTENT})
    arguments = case.arguments(case.artifact())
    foreseen = task("artifact", arguments, check=True)
    assert foreseen["changed"] is True
    assert not case.bin.exists()
    first = task("artifact", arguments)
    assert first["changed"] is True
    assert (case.bin / "tool").read_bytes() == CONTENT
    assert (case.bin / "tool").stat().st_mode & 0o777 == 0o755
    assert first["results"][0]["sha256"] == sha256(CONTENT)
    assert sha256(CONTENT) in json.dumps(first["diff"])
    again = task("artifact", arguments)
    assert again["changed"] is False
    assert task("artifact", arguments, check=True)["changed"] is False


def test_a_file_that_somebody_altered_on_the_host_is_put_right(case: Case, task: Task) -> None:
    fill(case.mirror, {"tool/v1.0+a/amd64/tool": CONTENT})
    task("artifact", case.arguments(case.artifact()))
    (case.bin / "tool").write_bytes(CONTENT[:-1] + b"X")
    (case.bin / "tool").chmod(0o700)
    assert task("artifact", case.arguments(case.artifact()))["changed"] is True
    assert (case.bin / "tool").read_bytes() == CONTENT
    assert (case.bin / "tool").stat().st_mode & 0o777 == 0o755


def test_a_wrong_mode_alone_is_corrected(case: Case, task: Task) -> None:
    fill(case.mirror, {"tool/v1.0+a/amd64/tool": CONTENT})
    task("artifact", case.arguments(case.artifact()))
    (case.bin / "tool").chmod(0o600)
    assert task("artifact", case.arguments(case.artifact()))["changed"] is True
    assert (case.bin / "tool").stat().st_mode & 0o777 == 0o755
    assert task("artifact", case.arguments(case.artifact()))["changed"] is False


def test_a_corrupt_mirror_file_stops_before_anything_is_replaced(case: Case, task: Task) -> None:
    files = {"tool/v1.0+a/amd64/good": b"new good", "tool/v1.0+a/amd64/bad": b"new bad"}
    fill(case.mirror, files)
    (case.mirror / "tool/v1.0+a/amd64/bad").write_bytes(b"new bax")
    case.bin.mkdir(parents=True)
    (case.bin / "good").write_bytes(b"old good")
    result = task("artifact", case.arguments(case.artifact("good"), case.artifact("bad")))
    assert result["code"] == "ARTIFACT_003"
    assert "nothing was replaced" in result["msg"]
    assert "skerry mirror verify" in result["remedy"]
    assert (case.bin / "good").read_bytes() == b"old good"
    assert case.leftovers() == []


def test_a_role_and_a_lock_that_disagree_stop(case: Case, task: Task) -> None:
    fill(case.mirror, {"tool/v1.0+a/amd64/tool": CONTENT}, source="https://example.org/tool")
    artifact = case.artifact(checksum="sha256:" + "0" * 64)
    assert task("artifact", case.arguments(artifact))["code"] == "ARTIFACT_003"
    # A file that was put there on purpose is known by the lock alone.
    fill(case.mirror, {"tool/v1.0+a/amd64/tool": CONTENT}, source="local")
    assert task("artifact", case.arguments(artifact))["changed"] is True


@pytest.mark.parametrize(
    ("files", "code"),
    [({}, "ARTIFACT_001"), ({"other/1/amd64/tool": b"x"}, "ARTIFACT_001")],
)
def test_a_file_that_the_mirror_has_not(case: Case, task: Task, files: dict[str, bytes], code: str) -> None:
    fill(case.mirror, files)
    result = task("artifact", case.arguments(case.artifact()))
    assert result["code"] == code
    assert "skerry mirror" in result["remedy"]
    optional = task("artifact", case.arguments(case.artifact(optional=True)))
    assert optional["changed"] is False
    assert optional["results"][0]["missing"] is True
    assert code in optional["results"][0]["error"]


def test_a_file_without_a_lock_is_refused(case: Case, task: Task) -> None:
    (case.mirror / "tool/v1.0+a/amd64").mkdir(parents=True)
    (case.mirror / "tool/v1.0+a/amd64/tool").write_bytes(CONTENT)
    assert task("artifact", case.arguments(case.artifact()))["code"] == "ARTIFACT_002"
    pinned = case.artifact(checksum="sha256:" + sha256(CONTENT))
    assert task("artifact", case.arguments(pinned))["changed"] is True


def test_a_broken_lock_is_named(case: Case, task: Task) -> None:
    fill(case.mirror, {"tool/v1.0+a/amd64/tool": CONTENT})
    (case.mirror / "mirror.lock.json").write_text('{"format": 2}')
    assert task("artifact", case.arguments(case.artifact()))["code"] == "ARTIFACT_007"


@pytest.mark.parametrize("bad", [{"arch": "x86"}, {"checksum": "md5:abc"}, {"version": "../1"}, {"colour": "red"}])
def test_bad_arguments_are_told(case: Case, task: Task, bad: dict[str, Any]) -> None:
    fill(case.mirror, {})
    artifact = {**case.artifact(url="http://127.0.0.1:9/tool"), **bad}
    assert task("artifact", case.arguments(artifact, mirror=""))["code"] == "ARTIFACT_007"


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz", "tar.bz2", "tar.zst", "zip"])
def test_one_member_of_an_archive_is_placed(case: Case, task: Task, suffix: str) -> None:
    if suffix == "tar.zst" and not shutil.which("zstd"):
        pytest.skip("this machine has no zstd command")
    name = f"tool.{suffix}"
    fill(case.mirror, {f"tool/v1.0+a/amd64/{name}": archive(suffix, "tool-1/bin/tool", CONTENT)})
    artifact = case.artifact(name, extract="tool-1/bin/tool", dest=str(case.bin / "tool"))
    assert task("artifact", case.arguments(artifact))["changed"] is True
    assert (case.bin / "tool").read_bytes() == CONTENT
    assert task("artifact", case.arguments(artifact))["changed"] is False
    assert task("artifact", case.arguments(artifact), check=True)["changed"] is False
    (case.bin / "tool").write_bytes(b"spoilt")
    assert task("artifact", case.arguments(artifact))["changed"] is True
    assert (case.bin / "tool").read_bytes() == CONTENT


@pytest.mark.parametrize("content", [archive("tar.gz", "elsewhere", CONTENT), b"no archive at all"])
def test_an_archive_without_the_member_replaces_nothing(case: Case, task: Task, content: bytes) -> None:
    fill(case.mirror, {"tool/v1.0+a/amd64/tool.tar.gz": content})
    case.bin.mkdir(parents=True)
    (case.bin / "tool").write_bytes(b"old")
    artifact = case.artifact("tool.tar.gz", extract="tool-1/bin/tool", dest=str(case.bin / "tool"))
    assert task("artifact", case.arguments(artifact))["code"] == "ARTIFACT_005"
    assert (case.bin / "tool").read_bytes() == b"old"
    assert case.leftovers() == []


def test_a_mirror_may_hold_the_member_itself(case: Case, task: Task) -> None:
    fill(case.mirror, {"tool/v1.0+a/amd64/tool": CONTENT})
    artifact = case.artifact("tool.tar.xz", extract="tool-1/bin/tool", dest=str(case.bin / "tool"))
    assert task("artifact", case.arguments(artifact))["changed"] is True
    assert (case.bin / "tool").read_bytes() == CONTENT
    assert task("artifact", case.arguments(artifact))["changed"] is False


def test_links(case: Case, task: Task) -> None:
    fill(case.mirror, {"tool/v1.0+a/amd64/tool": CONTENT})
    links = [
        {"path": str(case.bin / "alias")},
        {"path": str(case.bin / "sh"), "unless_command": "sh"},
        {"path": str(case.bin / "own"), "unless_command": "no-such-command-anywhere"},
    ]
    arguments = case.arguments(case.artifact(links=links))
    assert task("artifact", arguments)["changed"] is True
    assert (case.bin / "alias").readlink() == case.bin / "tool"
    assert (case.bin / "own").readlink() == case.bin / "tool"
    assert not (case.bin / "sh").exists()
    assert task("artifact", arguments)["changed"] is False
    (case.bin / "alias").unlink()
    (case.bin / "alias").write_text("mine")
    assert task("artifact", arguments)["code"] == "ARTIFACT_008"
    assert (case.bin / "alias").read_text() == "mine"


def test_absent_removes_the_file_its_links_and_the_note(case: Case, task: Task) -> None:
    fill(case.mirror, {"tool/v1.0+a/amd64/tool": CONTENT})
    arguments = case.arguments(case.artifact(links=[{"path": str(case.bin / "alias")}]))
    task("artifact", arguments)
    gone = {**arguments, "state": "absent"}
    assert task("artifact", gone, check=True)["changed"] is True
    assert (case.bin / "tool").exists()
    assert task("artifact", gone)["changed"] is True
    assert list(case.bin.iterdir()) == []
    assert json.loads(case.record.read_text()) == {}
    assert task("artifact", gone)["changed"] is False


def test_upstream_with_a_list_of_checksums(case: Case, task: Task, site: Site) -> None:
    url = site.put("dl/v1.0+a/tool", CONTENT)
    sums = site.put("dl/v1.0+a/SHA256SUM", f"{'1' * 64}  other\n{sha256(CONTENT)}  tool\n".encode())
    arguments = case.arguments(case.artifact(url=url, checksum=f"sha256:{sums}"), mirror="")
    assert task("artifact", arguments, check=True)["changed"] is True
    assert task("artifact", arguments)["changed"] is True
    assert (case.bin / "tool").read_bytes() == CONTENT
    site.requests.clear()
    assert task("artifact", arguments)["changed"] is False
    assert site.requests == []  # the second run asks nobody
    (case.bin / "tool").write_bytes(b"spoilt")
    assert task("artifact", arguments)["changed"] is True


def test_a_broken_download_is_taken_up_where_it_broke(case: Case, task: Task, site: Site) -> None:
    url = site.put("tool", CONTENT)
    site.cut["/tool"] = 70_000
    arguments = case.arguments(case.artifact(url=url, checksum=f"sha256:{sha256(CONTENT)}"), mirror="")
    assert task("artifact", arguments)["changed"] is True
    assert (case.bin / "tool").read_bytes() == CONTENT
    assert site.requests[-1] == ("/tool", "bytes=70000-")


def test_a_download_with_a_wrong_checksum_replaces_nothing(case: Case, task: Task, site: Site) -> None:
    good, bad = site.put("good", b"new"), site.put("bad", b"altered by a proxy")
    case.bin.mkdir(parents=True)
    (case.bin / "good").write_bytes(b"old")
    artifacts = [
        case.artifact("good", url=good, checksum=f"sha256:{sha256(b'new')}"),
        case.artifact("bad", url=bad, checksum=f"sha256:{sha256(b'original')}", optional=True),
    ]
    assert task("artifact", case.arguments(*artifacts, mirror=""))["code"] == "ARTIFACT_003"
    assert (case.bin / "good").read_bytes() == b"old"
    assert case.leftovers() == []


def test_an_address_that_does_not_answer(case: Case, task: Task, site: Site) -> None:
    checksum = f"sha256:{sha256(CONTENT)}"
    missing = case.artifact(url=f"{site.url}/nothing", checksum=checksum)
    result = task("artifact", case.arguments(missing, mirror=""))
    assert result["code"] == "ARTIFACT_004"
    assert "HTTP 404" in result["msg"]
    nobody = case.artifact(url="http://127.0.0.1:9/tool", checksum=checksum, optional=True)
    for check in (True, False):
        result = task("artifact", case.arguments(nobody, mirror=""), check=check)
        assert result["changed"] is False
        assert result["results"][0]["missing"] is True


def test_a_mirror_behind_a_url(case: Case, task: Task, site: Site) -> None:
    fill(site.root, {"tool/v1.0+a/amd64/tool": CONTENT})
    arguments = case.arguments(case.artifact(), mirror=site.url)
    assert task("artifact", arguments)["changed"] is True
    assert ("/tool/v1.0%2Ba/amd64/tool", "") in site.requests
    assert task("artifact", arguments)["changed"] is False
    # The site rebuilt the file under the same version: the lock is what counts.
    fill(site.root, {"tool/v1.0+a/amd64/tool": b"rebuilt"})
    assert task("artifact", arguments)["changed"] is True
    assert (case.bin / "tool").read_bytes() == b"rebuilt"
    (site.root / "tool/v1.0+a/amd64/tool").write_bytes(b"corrupt")
    (case.bin / "tool").unlink()
    assert task("artifact", arguments)["code"] == "ARTIFACT_003"
    assert not (case.bin / "tool").exists()


def test_two_members_of_one_archive_are_one_download(case: Case, task: Task, site: Site) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in ("bin/one", "lib/two"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(name[-3:].encode()))
    url = site.put("both.tar.gz", packed.getvalue())
    common = {"url": url, "checksum": f"sha256:{sha256(packed.getvalue())}"}
    artifacts = [
        case.artifact("both.tar.gz", extract="bin/one", dest=str(case.bin / "one"), **common),
        case.artifact("both.tar.gz", extract="lib/two", dest=str(case.bin / "two"), **common),
    ]
    assert task("artifact", case.arguments(*artifacts, mirror=""))["changed"] is True
    assert (case.bin / "one").read_bytes() == b"one"
    assert (case.bin / "two").read_bytes() == b"two"
    assert len(site.requests) == 1
    assert case.leftovers() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system can only be mounted by root")
@pytest.mark.parametrize("from_mirror", [True, False])
def test_a_full_disk_leaves_nothing_half_done(case: Case, task: Task, site: Site, from_mirror: bool) -> None:
    case.bin.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(case.bin)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        (case.bin / "small").write_bytes(b"old")
        fill(case.mirror, {"tool/v1.0+a/amd64/small": b"new", "tool/v1.0+a/amd64/tool": CONTENT})
        artifacts = [case.artifact("small"), case.artifact("tool")]
        mirror = str(case.mirror)
        if not from_mirror:
            mirror = ""
            artifacts = [
                {**artifacts[0], "url": site.put("small", b"new"), "checksum": f"sha256:{sha256(b'new')}"},
                {**artifacts[1], "url": site.put("tool", CONTENT), "checksum": f"sha256:{sha256(CONTENT)}"},
            ]
        result = task("artifact", case.arguments(*artifacts, mirror=mirror))
        assert result["code"] == "ARTIFACT_006"
        assert "df -h" in result["remedy"]
        assert sorted(path.name for path in case.bin.iterdir()) == ["small"]
        assert (case.bin / "small").read_bytes() == b"old"
    finally:
        subprocess.run(["umount", str(case.bin)], check=True)


def test_described_contacts_nobody(case: Case, task: Task) -> None:
    artifact = case.artifact(url="http://127.0.0.1:9/tool", dest="/nonexistent/tool")
    result = task("artifact", case.arguments(artifact, state="described"))
    assert result["changed"] is False
    assert result["artifacts"][0]["url"] == "http://127.0.0.1:9/tool"
