"""Finds every error code in the project's sources, with the cause and the remedy that stand beside it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CODE = re.compile(r"[A-Z][A-Z0-9]*_\d{3}")
MESSAGE = re.compile(
    rf"\b(?P<code>{CODE.pattern})\b[\s:]+(?P<cause>.*?)\s*[|\n]\s*remedy:\s*(?P<remedy>.*)", re.DOTALL
)
#: Where sources live, below the checkout.
PYTHON = ("skerry", "tools/skerry/**/*.py", "collections/ansible_collections/skerry/**/*.py", "playbooks/**/*.py")
YAML = ("roles/*/tasks/**/*.yml", "roles/*/handlers/*.yml", "roles/*/vars/*.yml", "playbooks/**/*.yml")


@dataclass(frozen=True, order=True)
class Use:
    """One place that raises a code; cause and remedy are templates, empty where they are made elsewhere."""

    code: str
    cause: str
    remedy: str
    path: str
    line: int


class _Yaml(yaml.SafeLoader):
    """Reads task files: tags of Ansible's own (``!vault``, ``!unsafe``) are read as what they hold."""


_Yaml.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(node))


def template(node: ast.expr | None) -> str:
    """A string expression as people read it: what is filled in at run time becomes ``{name}``; else empty."""
    text = ""
    match node:
        case ast.Constant(value=str(constant)):
            text = constant
        case ast.JoinedStr(values=values):
            text = "".join(template(part) if isinstance(part, ast.Constant) else _hole(part) for part in values)
        case ast.BinOp(left=left, op=ast.Mod(), right=right):
            text = _filled(left, r"%[sdr]", right.elts if isinstance(right, ast.Tuple) else [right])
        case ast.BinOp(left=left, right=right):
            first, second = template(left), template(right)
            text = (first or _named(left)) + (second or _named(right)) if first or second else ""
        case ast.Call(func=ast.Attribute(attr="format", value=value), args=given):
            text = _filled(value, r"\{[^}]*\}", given)
        case ast.IfExp(body=body, orelse=orelse):
            text = " / ".join(part for part in (template(body), template(orelse)) if part)
    return text


def _filled(text: ast.expr, places: str, values: list[ast.expr]) -> str:
    """``text`` with its ``places`` (a pattern) named after the expressions that fill them."""
    given = iter(values)
    return re.sub(places, lambda _: _named(next(given, None)), template(text))


def _hole(node: ast.expr) -> str:
    return _named(node.value) if isinstance(node, ast.FormattedValue) else ""


def _named(node: ast.expr | None) -> str:
    if isinstance(node, ast.Name):
        return f"{{{node.id}}}"
    if isinstance(node, ast.Attribute):
        return f"{{{node.attr}}}"
    return "{…}"


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _arguments(node: ast.Call, first: int, known: Mapping[str, str]) -> tuple[str, str]:
    """Cause and remedy of a call whose argument number ``first`` is the cause; ``known``: what local names say.

    Severities and exit codes between them are passed over, and so is a pattern before them.
    """
    named = {keyword.arg: template(keyword.value) for keyword in node.keywords}
    given = [argument for argument in node.args[first:] if not _is_constant(argument)]
    if len(given) > 2 and all(map(template, given[:3])):
        given = given[1:]
    texts = [template(one) or known.get(getattr(one, "id", ""), "") for one in given[:2]] + ["", ""]
    return texts[0] or named.get("cause", ""), texts[1] or named.get("remedy", "")


def _said_before(function: ast.AST) -> dict[str, str]:
    """Texts that a function keeps under a name of its own before it raises."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and (text := template(node.value)):
            found.setdefault(node.targets[0].id, []).append(text)
    return {name: " / ".join(texts) for name, texts in found.items()}


def _is_constant(node: ast.expr) -> bool:
    """``WARNING`` or ``Exit.FAILED``: a name that stands for a value of an enumeration."""
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return bool(name) and name == name.upper()


def _clean(text: str) -> str:
    text = re.sub(r"\{\{-?\s*(.*?)\s*-?\}\}", "{…}", text, flags=re.DOTALL)
    return " ".join(re.sub(r"\{%.*?%\}", " ", text, flags=re.DOTALL).split())


def _in_calls(tree: ast.AST, path: str) -> Iterator[Use]:
    """Codes given to calls: ``Error("X_001", cause, remedy)``, and calls of helpers that add the code."""
    helpers: dict[str, tuple[str, int]] = {}
    known: dict[ast.Call, Mapping[str, str]] = {}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        said = _said_before(function)
        known.update({node: said for node in ast.walk(function) if isinstance(node, ast.Call)})
        names = [argument.arg for argument in function.args.args]
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and (found := _code_argument(node)):
                code, position = found
                cause = node.args[position + 1] if len(node.args) > position + 1 else None
                if isinstance(cause, ast.Name) and cause.id in names:
                    helpers[function.name] = (code, names.index(cause.id) - (names[0] == "self"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if found := _code_argument(node):
            cause_text, remedy = _arguments(node, found[1] + 1, known.get(node, {}))
            yield Use(found[0], _clean(cause_text), _clean(remedy), path, node.lineno)
        elif _called(node) in helpers:
            code, first = helpers[_called(node)]
            cause_text, remedy = _arguments(node, first, known.get(node, {}))
            yield Use(code, _clean(cause_text), _clean(remedy), path, node.lineno)


def _code_argument(node: ast.Call) -> tuple[str, int] | None:
    for position, argument in enumerate(node.args):
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and CODE.fullmatch(argument.value):
            return argument.value, position
    for keyword in node.keywords:
        value = keyword.value
        if keyword.arg == "code" and isinstance(value, ast.Constant) and CODE.fullmatch(str(value.value)):
            return str(value.value), -1
    return None


def _in_texts(tree: ast.AST, path: str) -> Iterator[Use]:
    """Codes inside messages: ``"X_001 cause | remedy: ..."`` in any string."""
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp) and id(node) not in documented:
            for found in MESSAGE.finditer(template(node)):
                yield Use(found["code"], _clean(found["cause"]), _clean(found["remedy"]), path, node.lineno)


def _in_yaml(value: Any, path: str) -> Iterator[Use]:
    if isinstance(value, str):
        for found in MESSAGE.finditer(value):
            yield Use(found["code"], _clean(found["cause"]), _clean(found["remedy"]), path, 0)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _in_yaml(item, path)
    elif isinstance(value, list):
        for item in value:
            yield from _in_yaml(item, path)


def scan(root: Path) -> list[Use]:
    """Every use of a code in the sources below ``root``, sorted; one for each code, file and cause."""
    found: dict[tuple[str, str, str], Use] = {}
    for pattern in (*PYTHON, *YAML):
        for path in sorted(root.glob(pattern)):
            if path.is_symlink() or not path.is_file() or any(part.is_symlink() for part in path.parents):
                continue
            name = path.relative_to(root).as_posix()
            text = path.read_text(encoding="utf-8")
            if pattern in YAML:
                uses = _in_yaml(list(yaml.load_all(text, Loader=_Yaml)), name)
            else:
                tree = ast.parse(text)
                uses = iter([*_in_calls(tree, name), *_in_texts(tree, name)])
            for use in uses:
                found.setdefault((use.code, use.path, use.cause), use)
    return sorted(found.values())
