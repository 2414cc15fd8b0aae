"""`skerry workload new`: every template is written, built, run, and read as `skerry deploy` reads it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import wasmtime
import yaml
from typer.testing import CliRunner
from workload_compilers import UnavailableError, on_path

from skerry.cli.workload import app
from skerry.deploy.load import read
from skerry.errors import Exit, SkerryError
from skerry.workloads import Language, build, check, handler, manifest, new, toolchain
from skerry.workloads.alone import COMPONENT

LANGUAGES: tuple[Language, ...] = get_args(Language)
#: wasmtime takes seconds to compile Python's component, each time.
SLOW_TOO = [pytest.param(one, marks=pytest.mark.full if one == "python" else ()) for one in LANGUAGES]
KINDS: tuple[new.Kind, ...] = get_args(new.Kind)


@pytest.fixture(autouse=True)
def _fresh_compilers() -> Iterator[None]:
    toolchain.find.cache_clear()
    yield
    toolchain.find.cache_clear()


@pytest.fixture
def compiler(language: Language, monkeypatch: pytest.MonkeyPatch) -> Language:
    """A language whose compiler is on PATH."""
    try:
        monkeypatch.setenv("PATH", on_path(language))
    except UnavailableError as error:
        pytest.skip(f"no compiler for {language}: {error}")
    return language


def run(module: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    alone = Path(check.__file__).with_name("alone.py")
    command = [sys.executable, str(alone), str(module), str(module.parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=120)


def refused(folder: Path, language: Language = "c", kind: new.Kind = "job") -> SkerryError:
    with pytest.raises(SkerryError) as caught:
        new.write(folder, language, kind)
    return caught.value


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_project_passes_its_own_test_and_is_what_deploy_takes(
    compiler: Language, kind: new.Kind, tmp_path: Path
) -> None:
    folder = tmp_path / f"my-{kind}"
    if kind == "http" and compiler not in new.HANDLERS:
        assert refused(folder, compiler, kind).code == "WORKLOAD_011"
        assert not folder.exists()
        return
    written = new.write(folder, compiler, kind)
    assert sorted(folder.iterdir()) == sorted(written)
    assert not [file for file in written if re.search("@[A-Z]", file.read_text())]
    assert len((folder / "README.md").read_text().splitlines()) == 10

    built, checked = check.check(check.load(folder))
    assert [one.size for one in checked] == ["full"]

    submitted, = read(folder / "deploy.yaml", {})
    assert (submitted.name, submitted.workload.kind) == (f"my-{kind}", "service" if kind == "http" else kind)
    assert submitted.module.digest == built.sha256
    form = "http" if kind == "http" else "component" if compiler == "python" else "core"
    assert submitted.module.form == form


@pytest.mark.parametrize("language", SLOW_TOO)
def test_a_job_counts_and_refuses_what_is_no_number(compiler: Language, tmp_path: Path) -> None:
    new.write(tmp_path / "numbers", compiler, "job")
    module = build.build_one(check.load(tmp_path / "numbers"), "wasm").path
    good = run(module, "-5", "0", "123456789012")
    assert (good.returncode, good.stdout) == (0, "least -5 greatest 123456789012 sum 123456789007\n")
    for wrong in (["4", "many"], ["4", ""], []):
        bad = run(module, *wrong)
        assert (bad.returncode, bad.stdout) == (1, ""), (wrong, bad)
        assert "numbers" in bad.stderr, wrong


@pytest.mark.parametrize("language", SLOW_TOO)
def test_a_service_says_ready_at_once_and_then_keeps_its_time(compiler: Language, tmp_path: Path) -> None:
    new.write(tmp_path / "ticker", compiler, "service")
    deployed = yaml.safe_load((tmp_path / "ticker" / "deploy.yaml").read_text())
    module = build.build_one(check.load(tmp_path / "ticker"), "wasm").path
    alone = Path(check.__file__).with_name("alone.py")
    command = [sys.executable, str(alone), str(module), str(tmp_path)]
    with subprocess.Popen([*command, "300"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            seen = []
            for line in process.stdout:
                seen.append((line, time.monotonic()))
                if len(seen) == 4:
                    break
        finally:
            process.kill()
    assert [line for line, _ in seen] == ["ready\n", "tick 1\n", "tick 2\n", "tick 3\n"]
    assert seen[3][1] - seen[0][1] > 0.8  # lines come one by one, not all at the end
    assert process.wait() == -9  # without a count it has no end
    assert deployed["readiness"]["line"] == "^ready$"
    for wrong in ([], ["0"], ["soon"], ["5", "0"], ["5", "2", "1"]):
        bad = run(module, *wrong)
        assert (bad.returncode, bad.stdout) == (1, ""), (wrong, bad)
        assert "usage: ticker" in bad.stderr


def test_only_a_program_becomes_a_handler() -> None:
    for text in ("(module)", '(module (memory (export "memory") 1))',
                 '(module (import "env" "more" (func)) (memory (export "memory") 1) (func (export "_start")))'):
        with pytest.raises(SkerryError, match="WORKLOAD_012"):
            handler.wrap(wasmtime.wat2wasm(text))
    least = wasmtime.wat2wasm('(module (memory (export "memory") 1) (func (export "_start")))')
    assert handler.wrap(least).startswith(COMPONENT)


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("precious")
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("mine", "file", "link"):
        assert refused(tmp_path / name).code == "WORKLOAD_008"
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["notes"]
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "empty").mkdir()
    assert new.write(tmp_path / "empty", "c", "job")


@pytest.mark.parametrize("name", ["Counter", "2nd", "a_b", "a" * 32, "über", "null", "yes", "x "])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    assert refused(tmp_path / name).code == "WORKLOAD_007"
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = refused(tmp_path / "file" / "project")
    assert (error.code, "project" in error.cause) == ("WORKLOAD_010", True)


@pytest.mark.parametrize(("language", "package"), [
    ("rust", "libstd-rust-dev-wasm32"), ("assemblyscript", "@assemblyscript/wasi-shim"), ("python", "componentize-py")])
def test_without_its_compiler_nothing_is_written_and_the_package_is_named(
    language: Language, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    error = refused(tmp_path / "project", language)
    assert (error.code, error.exit_code) == ("WORKLOAD_003", Exit.PREREQUISITE)
    assert package in error.remedy
    assert not (tmp_path / "project").exists()


def test_a_rustc_without_wasi_does_not_hide_a_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, makes in (("first", "exit 1"), ("second", 'while [ "$1" != -o ]; do shift; done; : > "$2"')):
        (tmp_path / name).mkdir()
        script = tmp_path / name / "rustc"
        script.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "rustc 1.99.{len(name)}" && exit\n{makes}\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'first'}:{tmp_path / 'second'}")
    found = toolchain.find("rust")
    assert found.command[0] == str(tmp_path / "second" / "rustc")
    assert found.version == "1.99.6"


def test_a_program_that_prints_something_else_fails_its_test(tmp_path: Path) -> None:
    folder = tmp_path / "numbers"
    new.write(folder, "c", "job")
    source = folder / "main.c"
    for before, after, said in (("sum %lld", "total %lld", "+least -2 greatest 7 total 8"),
                                ("return fflush(stdout) != 0", "return 3", "exit code 3"),
                                ("if (argc < 2)", "__builtin_trap(); if (argc < 2)", "exit code 134")):
        text = source.read_text()
        assert before in text
        source.write_text(text.replace(before, after))
        with pytest.raises(SkerryError) as caught:
            check.check(check.load(folder))
        source.write_text(text)
        assert caught.value.code == "WORKLOAD_009"
        assert said in caught.value.cause


def test_sources_may_lie_in_folders_below_but_not_beside(tmp_path: Path) -> None:
    folder = tmp_path / "numbers"
    new.write(folder, "c", "job")
    path = folder / "workload.yaml"
    (folder / "src").mkdir()
    (folder / "main.c").rename(folder / "src" / "main.c")
    path.write_text(path.read_text().replace("main.c", "src/main.c"))
    assert check.check(check.load(folder))[1]
    (folder / "src" / "main.c").rename(tmp_path / "main.c")
    for elsewhere in ("../main.c", str(tmp_path / "main.c"), "src/main.c"):
        path.write_text(re.sub(r"sources: .*", f"sources: [{elsewhere}]", path.read_text()))
        with pytest.raises(SkerryError) as caught:
            check.load(folder)
        assert caught.value.code == "WORKLOAD_002"


def test_a_program_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new.write(tmp_path / "ticker", "c", "service")
    path = tmp_path / "ticker" / "workload.yaml"
    path.write_text(path.read_text().replace('"10", "3"', '"10"'))
    monkeypatch.setattr(check, "PATIENCE", 2)
    with pytest.raises(SkerryError, match="not ended after 2 s"):
        check.check(check.load(tmp_path / "ticker"))


@pytest.mark.parametrize("name", ["sha256", "sensors"])
def test_the_measured_programs_pass_too(name: str) -> None:
    workload = manifest.load(manifest.directory() / name / "workload.yaml")
    small = workload.model_copy(update={"sizes": {"small": workload.sizes["small"]}})
    assert [one.size for one in check.check(small)[1]] == ["small"]


def test_native_controls_of_a_language_that_has_none_are_refused(tmp_path: Path) -> None:
    workload = manifest.Workload.model_validate({
        "name": "x", "summary": "x", "language": "python", "sources": ["main.py"], "directory": tmp_path,
        "sizes": {"full": {"stdout": ""}}})
    with pytest.raises(SkerryError) as caught:
        build.build_one(workload, "amd64")
    assert caught.value.code == "WORKLOAD_006"
    assert "python" in caught.value.cause


def test_the_commands_from_new_to_a_module_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    made = runner.invoke(app, ["new", "beat", "--kind", "service", "--language", "zig", "--json"])
    assert json.loads(made.output) == {
        "name": "beat", "language": "zig", "kind": "service", "folder": str(tmp_path / "beat"),
        "files": ["README.md", "deploy.yaml", "main.zig", "workload.yaml"]}
    tested = runner.invoke(app, ["test", "beat", "--json"])
    assert tested.exit_code == 0, tested.output
    assert [one["size"] for one in json.loads(tested.output)["checked"]] == ["full"]
    built = runner.invoke(app, ["build", "beat", "-o", "beat.wasm", "--json"])
    assert json.loads(built.output)["sha256"] == json.loads(tested.output)["built"]["sha256"]
    assert run(tmp_path / "beat.wasm", "1", "1").stdout == "ready\ntick 1\n"
    assert runner.invoke(app, ["new", "beat2", "--language", "cobol"]).exit_code == 2
    assert isinstance(runner.invoke(app, ["test", "nowhere"]).exception, SkerryError)
