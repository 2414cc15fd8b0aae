"""Files of hosts as modules read and replace them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.skerry.edge.plugins.module_utils.files import read_text, replace_file


@pytest.mark.parametrize("content", ["päiväys\n", "päiväys\n".encode()], ids=["text", "bytes"])
def test_a_file_is_replaced_with_its_mode_and_nothing_is_left_beside_it(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "new" / "folder" / "file"
    for mode in (0o600, 0o644):
        replace_file(str(path), content, mode, (os.getuid(), os.getgid()))
        assert path.read_text(encoding="utf-8") == "päiväys\n"
        assert path.stat().st_mode & 0o7777 == mode
    assert list(path.parent.iterdir()) == [path]
    assert path.parent.stat().st_mode & 0o777 == 0o755


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("stays")
    (tmp_path / "link").symlink_to("other")
    replace_file(str(tmp_path / "link"), "new", 0o644)
    assert (tmp_path / "other").read_text() == "stays"
    assert not (tmp_path / "link").is_symlink()


def test_what_fails_leaves_the_former_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        replace_file(str(tmp_path / "file"), "text", 0o644)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_no_file_has_no_text(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"caf\xe9")
    assert read_text(str(tmp_path / "file")) == "caf\N{REPLACEMENT CHARACTER}"
    for absent in ("none", "file/below", "."):
        assert read_text(str(tmp_path / absent)) is None
