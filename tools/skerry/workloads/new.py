"""Projects of people's own: a folder with a program, what it is built from, where it runs, and a test."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from skerry.errors import SkerryError
from skerry.workloads import Language, toolchain
from skerry.workloads.manifest import NAME

Kind = Literal["job", "service", "http"]

#: Languages whose programs end by returning from main, so that one is run for each request. Go's ends by a trap there,
#: Python's is a component of its own.
HANDLERS: tuple[Language, ...] = ("c", "zig", "rust", "assemblyscript")
TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class _Kind:
    """What programs of a kind do, in whatever language: their test is the same one. ``more``: for workload.yaml."""

    does: str
    arguments: str
    stdout: str
    title: str
    more: str = ""


_KINDS: dict[Kind, _Kind] = {
    "job": _Kind("prints the least, the greatest and the sum of numbers", '"7", "-2", "3"',
                 "least -2 greatest 7 sum 8\\n", "job"),
    "service": _Kind("says that it is ready, then counts", '"10", "3"', "ready\\ntick 1\\ntick 2\\ntick 3\\n",
                     "service"),
    "http": _Kind("answers requests with what was asked", '"GET", "/greet"', "GET /greet with 0 bytes\\n",
                  "service for HTTP", "serves: http\n"),
}


@dataclass(frozen=True)
class _Template:
    """What differs from language to language.

    Attributes:
        suffix: ending of the program's file.
        others: files that it is built from besides.
        memory: for deploy.yaml; what the runtime takes to compile the program counts, too.
        timeout: for deploy.yaml: how long a start may take.
    """

    title: str
    suffix: str
    builds: str
    others: tuple[str, ...] = ()
    memory: str = "128Mi"
    timeout: str = "30s"


_TEMPLATES: dict[Language, _Template] = {
    "c": _Template("C", "c", "The compiler, zig, comes with Skerry."),
    "zig": _Template("Zig", "zig", "The compiler comes with Skerry."),
    # WasmEdge's interpreter keeps a Go program in some 130 MB.
    "go": _Template("Go", "go", "The compiler comes with Skerry.", ("go.mod",), memory="256Mi"),
    "rust": _Template("Rust", "rs", "The compiler is Debian's: packages rustc and libstd-rust-dev-wasm32."),
    "assemblyscript": _Template("AssemblyScript", "ts",
                                "The compiler is npm's: packages assemblyscript and @assemblyscript/wasi-shim."),
    # The component holds CPython, 18 MB: wasmtime takes some 380 MB while it compiles that.
    "python": _Template("Python", "py", "The compiler is PyPI's package componentize-py; hosts need wasmtime.",
                        ("command.wit",), memory="512Mi", timeout="2m"),
}


def write(folder: Path, language: Language, kind: Kind) -> list[Path]:
    """Write a project into ``folder``, whose name is the project's; returns its files.

    Raises:
        SkerryError: WORKLOAD_007 for a name that is none, WORKLOAD_008 when something is there already, WORKLOAD_003
            without a compiler of that language, WORKLOAD_010 when the folder cannot be written, WORKLOAD_011 where the
            language has no such template.
    """
    name = folder.resolve().name
    if not re.fullmatch(NAME, name) or yaml.safe_load(name) != name:  # YAML reads null and yes as something else
        raise SkerryError("WORKLOAD_007", f"{name!r} is no name of a workload",
                          "lower case letters, digits and hyphens, at most 31, a letter first, no word of YAML's own")
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise SkerryError("WORKLOAD_008", f"{folder} is there already, and is no empty folder",
                          "choose another name, or move away what is there")
    if kind == "http" and language not in HANDLERS:
        raise SkerryError("WORKLOAD_011", f"there is no template of kind http for {language}",
                          f"choose one of {', '.join(HANDLERS)}, or build a component of wasi:http yourself")
    toolchain.find(language)
    texts = {file: _filled(template, name, language, kind) for file, template in _files(language, kind).items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SkerryError("WORKLOAD_010", f"{folder} cannot be written: {error.strerror}",
                          "name a folder where you may write") from error
    return [folder / file for file in texts]


def _files(language: Language, kind: Kind) -> dict[str, Path]:
    """Name in the project -> its template."""
    template = _TEMPLATES[language]
    return {
        _main(language): TEMPLATES / language / f"{kind}.{template.suffix}.in",
        **{other: TEMPLATES / language / f"{other}.in" for other in template.others},
        "workload.yaml": TEMPLATES / "all" / "workload.yaml.in",
        "deploy.yaml": TEMPLATES / "all" / f"{kind}.yaml.in",
        "README.md": TEMPLATES / "all" / "README.md.in",
    }


def _main(language: Language) -> str:
    return f"main.{_TEMPLATES[language].suffix}"


def _filled(path: Path, name: str, language: Language, kind: Kind) -> str:
    template, does = _TEMPLATES[language], _KINDS[kind]
    words = {
        "NAME": name, "LANGUAGE": language, "TITLE": template.title, "KIND": does.title, "MAIN": _main(language),
        "DOES": does.does, "SUMMARY": does.does, "SOURCES": ", ".join([_main(language), *template.others]),
        "TEST_ARGS": does.arguments, "STDOUT": does.stdout, "MEMORY": template.memory, "TIMEOUT": template.timeout,
        "BUILDS": template.builds, "MORE": does.more,
    }
    text = path.read_text(encoding="utf-8")
    return re.sub(r"@([A-Z_]+)@", lambda found: words[found[1]], text)
