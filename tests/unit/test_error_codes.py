"""How error codes are found in the sources, which docs/errors.md is made from."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.testing.codes import scan

CALLS = {
    'raise SkerryError("X_001", "no host", "add one")': ("no host", "add one"),
    'raise SkerryError("X_001", f"no host {name!r}", "add " "one", Exit.USAGE)': ("no host {name}", "add one"),
    'fail("X_001", WARNING, "disk full", "free space")': ("disk full", "free space"),
    'fail(code="X_001", cause="disk full", remedy="free space")': ("disk full", "free space"),
    'fail("X_001", "cannot open %s: %s" % (path, error.strerror), "look")': ("cannot open {path}: {strerror}", "look"),
    'fail("X_001", "{} is gone".format(path), "look")': ("{path} is gone", "look"),
    'fail("X_001", "old" if a else "new", "wait")': ("old / new", "wait"),
    'Known("X_001", r"no space left", "the disk is full", "make room")': ("the disk is full", "make room"),
    'module.fail_json(msg="X_001 no host | remedy: add one")': ("no host", "add one"),
    'sys.exit("X_001 no host\\n  remedy: add one")': ("no host", "add one"),
}


@pytest.mark.parametrize("source", CALLS)
def test_cause_and_remedy_are_read_from_a_call(source: str, tmp_path: Path) -> None:
    folder = tmp_path / "tools" / "skerry"
    folder.mkdir(parents=True)
    (folder / "part.py").write_text(source + "\n")
    (use,) = scan(tmp_path)
    assert (use.code, use.cause, use.remedy) == ("X_001", *CALLS[source])
    assert (use.path, use.line) == ("tools/skerry/part.py", 1)


def test_texts_kept_under_a_name_are_followed(tmp_path: Path) -> None:
    folder = tmp_path / "tools" / "skerry"
    folder.mkdir(parents=True)
    (folder / "part.py").write_text(
        'def check(path, host):\n    cause = f"cannot read {path}"\n    where = f"host {host}"\n'
        '    raise SkerryError("X_001", cause, "look at " + path, where)\n'
    )
    (use,) = scan(tmp_path)
    assert (use.cause, use.remedy) == ("cannot read {path}", "look at {path}")


def test_a_helper_that_adds_the_code_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / "tools" / "skerry"
    folder.mkdir(parents=True)
    (folder / "part.py").write_text(
        'def bad(cause, remedy):\n    return SkerryError("X_002", cause, remedy)\n'
        'raise bad("too small", "enlarge it")\n'
    )
    assert ("X_002", "too small", "enlarge it") in [(use.code, use.cause, use.remedy) for use in scan(tmp_path)]


def test_tasks_and_their_templates_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "roles" / "one" / "tasks"
    folder.mkdir(parents=True)
    (folder / "main.yml").write_text(
        "- name: Refuse\n  ansible.builtin.fail:\n    msg: >-\n      ONE_001 {{ host }} has no disk\n"
        "      | remedy: add {{ size }} MB\n"
    )
    (use,) = scan(tmp_path)
    assert (use.code, use.cause, use.remedy) == ("ONE_001", "{…} has no disk", "add {…} MB")


def test_words_in_documentation_are_no_errors(tmp_path: Path) -> None:
    folder = tmp_path / "tools" / "skerry"
    folder.mkdir(parents=True)
    (folder / "part.py").write_text('"""Raises X_003 no host | remedy: none."""\nCODES = ["X_004"]\n')
    assert scan(tmp_path) == []
