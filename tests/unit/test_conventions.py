"""The tree's own conventions (CONTRIBUTING.md), as far as a machine can see them and no linter looks."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from skerry import paths
from skerry.inventory.specs import RoleSpec, load_roles, read_yaml, site_options
from skerry.testing.codes import CODE, Use, scan

ROOT = paths.root()
ROLES = load_roles()
TEXT = {".yml", ".yaml", ".py", ".cfg", ".j2", ".md", ".toml", ".txt", ".lock", ".json", ".sh", ".c", ".go", ".zig", ""}
CODE_FILES = {".yml", ".yaml", ".py", ".j2", ".cfg", ""}
#: Variables that Ansible itself sets, and connection variables: everything else named ansible_* is an injected fact.
MAGIC = re.compile(
    r"ansible_(facts|host|user|port|connection|password|check_mode|diff_mode|play_\w+|become\w*|ssh_\w+|run_tags|skip_tags|"
    r"loop\w*|index_var|managed|python_interpreter|role_name|parent_role_names|dependent_role_names|failed_\w+|limit|"
    r"forks|verbosity|playbook_python|search_path|inventory_sources|config_file|remote_tmp|async_dir|job_id|"
    r"collection_name|playbook|inventory|runner\w*|collections\w*|core|module\w*|mitogen|lint|posix|"
    r"local)\b"
)


@cache
def tracked() -> tuple[Path, ...]:
    """Files that git tracks or would add, without links and without the charts' data, which upstream wrote."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", ":!tests/data/charts/*/*"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return tuple(path for name in listed if (path := ROOT / name).is_file() and not path.is_symlink())


def lines(suffixes: set[str], *folders: str) -> Iterator[tuple[Path, int, str]]:
    """Lines of text files below ``folders`` (all when none is named): file relative to the root, number, text."""
    for path in tracked():
        name = path.relative_to(ROOT)
        if path.suffix in suffixes and (not folders or name.parts[0] in folders):
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
                yield name, number, line


def found(pattern: str, suffixes: set[str], *folders: str, flags: int = 0) -> list[str]:
    """Places where ``pattern`` matches."""
    expression = re.compile(pattern, flags)
    return [f"{name}:{number}: {line.strip()[:120]}" for name, number, line in lines(suffixes, *folders)
            if expression.search(line)]


def yaml_files(*folders: str) -> list[Path]:
    """YAML files of Ansible's below ``folders``."""
    return [path for path in tracked() if path.suffix == ".yml" and path.relative_to(ROOT).parts[0] in folders]


# Roles ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES.values(), ids=list(ROLES))
def test_a_role_is_whole(role: RoleSpec) -> None:
    for need in ("README.md", "meta/main.yml", "defaults/main.yml", "tasks/main.yml"):
        assert (role.path / need).is_file(), f"{role.name} has no {need}"
    assert (ROOT / "molecule" / role.name / "molecule.yml").is_file(), f"{role.name} has no scenario"
    assert list((ROOT / "molecule" / role.name / "tests").glob("test_*.py")), f"{role.name}'s scenario verifies nothing"


@pytest.mark.parametrize("role", ROLES.values(), ids=list(ROLES))
def test_defaults_and_spec_agree(role: RoleSpec) -> None:
    options = role.options
    undescribed = sorted(set(role.defaults) - set(options))
    assert not undescribed, f"defaults without a spec: {undescribed}"
    missing = sorted(name for name, option in options.items() if name not in role.defaults and not option.required)
    assert not missing, f"options without a default: {missing}"
    for name, option in options.items():
        assert option.description, f"{name} has no description"
        if option.default is not None:
            assert option.default == role.defaults.get(name), f"{name}: the spec's default is not the role's"


@pytest.mark.parametrize("role", ROLES.values(), ids=list(ROLES))
def test_names_carry_the_role(role: RoleSpec) -> None:
    public = [name for name in role.options if not name.startswith(f"{role.name}_")]
    assert not public, f"without the role's prefix: {public}"
    private = {name for path in (role.path / "vars").glob("*.yml") for name in read_yaml(path)}
    bare = [name for name in private if not name.startswith(f"__{role.name}_")]
    assert not bare, f"in vars/ without __{role.name}_: {bare}"


def _task_lists(path: Path) -> list[dict[str, Any]]:
    document = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    return [item for item in document if isinstance(item, dict)]


@pytest.mark.parametrize("role", ROLES.values(), ids=list(ROLES))
def test_every_task_of_main_can_be_chosen_by_tag(role: RoleSpec) -> None:
    allowed = {f"{role.name}_{verb}" for verb in ("install", "configure", "run")} | {"always"}
    for task in _task_lists(role.path / "tasks" / "main.yml"):
        tags = task.get("tags") or []
        tags = [tags] if isinstance(tags, str) else tags
        assert tags, f"{role.name}: task {task.get('name')!r} of main.yml has no tag"
        assert set(tags) <= allowed, f"{role.name}: {task.get('name')!r} has the tags {tags}"


def test_roles_read_site_variables_through_their_defaults_only() -> None:
    names = "|".join(sorted(site_options(), key=len, reverse=True))
    places = [
        place for place in found(rf"(?<![\w.'\"-])({names})\b(?!\s*:)", {".yml", ".j2"}, "roles")
        if not re.match(r"roles/\w+/(defaults|meta)/", place) and "#" not in place.split(":", 2)[2][:3]
        and not re.search(r"remedy|msg|description|fail", place)
    ]
    assert not places, places


def test_no_fact_is_injected() -> None:
    places = [
        f"{name}:{number}: {line.strip()}" for name, number, line in lines({".yml", ".j2"}, "roles", "playbooks")
        for word in re.findall(r"(?<![\w.'\"/-])ansible_\w+", line.split("#", maxsplit=1)[0])
        if not MAGIC.fullmatch(word)
    ]
    assert not places, places


def test_plays_gather_no_facts_by_themselves() -> None:
    files = yaml_files("playbooks", "molecule")
    plays = [(path, play) for path in files for play in _task_lists(path) if "hosts" in play]
    assert plays
    for path, play in plays:
        assert play.get("gather_facts") is False, f"{path.relative_to(ROOT)}: play {play.get('name')!r} gathers facts"


# Things that are never written ---------------------------------------------------------------------------------------

NEVER = {
    "lint suppressions": (r"#\s*no" + r"qa\b", {".yml", ".yaml", ".py"}),
    "ignored errors": (r"ignore_" + r"errors:\s*(true|yes)", {".yml", ".yaml"}),
    "always changed": (r"changed_" + r"when:\s*true\s*$", {".yml", ".yaml"}),
    "never failed": (r"failed_" + r"when:\s*false\s*$", {".yml", ".yaml"}),
    "unchecked certificates": (r"validate_" + r"certs:\s*(false|no)", {".yml", ".yaml"}),
    "moving tags": (r":lat" + r"est\b", {".yml", ".yaml", ".j2"}),
    "unchecked host keys": (r"host_key_" + r"checking\s*[=:]\s*\"?(False|no)\b", {".cfg", ".yml", ".yaml"}),
    "unquoted modes": (r"\bmode:\s*0?[0-7]{3,4}\s*$", {".yml", ".yaml"}),
    "things left to do": (r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b", CODE_FILES | {".md"}),
    "behaviour keyed on Ansible's version": (r"(?<!min_)ansible_" + r"version\b", {".yml", ".j2"}),
    "skip lists of the linter": (r"^(skip|warn)_" + r"list:", {""}),
}


@pytest.mark.parametrize("what", NEVER, ids=[name.replace(" ", "-") for name in NEVER])
def test_never_written(what: str) -> None:
    pattern, suffixes = NEVER[what]
    places = found(pattern, suffixes, flags=re.IGNORECASE if what == "unchecked host keys" else 0)
    assert not places, places


def test_shell_is_not_used() -> None:
    places = found(r"ansible\.builtin\.shell:|^\s+shell:", {".yml", ".yaml"}, "roles", "playbooks", "molecule")
    assert not places, places


def test_no_package_registry_is_named() -> None:
    hosts = ["pypi" + ".org", "python" + "hosted", "deb." + "debian.org", "debian" + ".org/debian", "npm" + "js",
             "golang" + ".org", "crates" + ".io", "repo1.maven" + ".org"]
    places = found("|".join(map(re.escape, hosts)), TEXT)
    assert not places, places


def test_no_path_of_a_developers_machine_is_named() -> None:
    own = [str(ROOT), *([str(Path.home())] if Path.home() != Path("/ro" + "ot") else [])]
    places = found("|".join([r"(?<![\w.~}$-])/wo" + r"rk/\w", *map(re.escape, own)]), TEXT)
    assert not places, places


# Collections and modules ---------------------------------------------------------------------------------------------


def test_required_collections_are_those_in_use() -> None:
    required = {item["name"] for item in read_yaml(ROOT / "collections" / "requirements.yml")["collections"]}
    used = set()
    module = re.compile(r"(?<![\w./-])((?:community|ansible|kubernetes|containers)\.[a-z_]+)\.[a-z_0-9]+\b")
    for _, _, line in lines({".yml", ".j2"}, "roles", "playbooks", "molecule", "site.yml", "inventories"):
        used |= set(module.findall(line))
    used -= {"ansible.builtin"}
    assert used <= required, f"used without being required: {used - required}"
    assert required <= used, f"required without being used: {required - used}"


def test_every_module_of_ours_is_documented_and_supports_check_mode() -> None:
    modules = sorted((ROOT / "collections/ansible_collections/skerry/edge/plugins/modules").glob("*.py"))
    assert modules
    for path in modules:
        text = path.read_text(encoding="utf-8")
        parts = dict(re.findall(r"^(DOCUMENTATION|EXAMPLES|RETURN) = r?\"{3}(.*?)\"{3}", text, re.S | re.M))
        assert set(parts) == {"DOCUMENTATION", "EXAMPLES", "RETURN"}, path.name
        assert yaml.safe_load(parts["EXAMPLES"]), path.name
    names = [f"skerry.edge.{path.stem}" for path in modules]
    command = [str(Path(sys.executable).with_name("ansible-doc")), "-t", "module", "-j", *names]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    shown = json.loads(done.stdout)
    assert sorted(shown) == names
    for name, item in shown.items():
        documentation = item["doc"]
        assert documentation["module"] == name.rsplit(".", 1)[1]
        assert documentation["description"], name
        assert documentation["attributes"]["check_mode"]["support"] == "full", name
        assert "diff_mode" in documentation["attributes"], name
        assert "options" in documentation, name


# Error codes ---------------------------------------------------------------------------------------------------------


@cache
def uses() -> tuple[Use, ...]:
    """Every use of an error code."""
    return tuple(scan(ROOT))


def test_every_code_stands_in_the_errors_page() -> None:
    page = set(CODE.findall((ROOT / "docs" / "errors.md").read_text(encoding="utf-8")))
    raised = {use.code: f"{use.path}:{use.line}" for use in uses()}
    missing = {code: place for code, place in raised.items() if code not in page}
    assert not missing, f"run tools/reference_pages.py: {missing}"


def test_a_code_means_one_thing() -> None:
    """Codes of one part of the tree are not raised by another (the probe is the far end of the targets)."""
    areas: dict[str, set[str]] = {}
    for use in uses():
        parts = Path(use.path).parts
        area = "/".join(parts[1:3]) if parts[0] == "tools" and parts[2] != "cli" else parts[0]
        if parts[0] != "tools" or parts[2] != "cli":
            areas.setdefault(use.code, set()).add({"skerry/targets": "skerry/probe"}.get(area, area))
    ansible = {"roles", "playbooks", "collections"}
    several = {code: sorted(names) for code, names in areas.items() if len(names) > 1 and not names <= ansible}
    assert not several, several


def test_a_failed_task_says_what_to_do_next() -> None:
    bare: list[str] = []
    for path in yaml_files("roles", "playbooks"):
        for module, arguments in _modules(yaml.safe_load(path.read_text(encoding="utf-8"))):
            if module not in ("ansible.builtin.fail", "ansible.builtin.assert"):
                continue
            said = " ".join(str(arguments.get(key, "")) for key in ("msg", "fail_msg"))
            if "remedy" not in said and "__" not in said:  # a private variable holds the message
                bare.append(f"{path.relative_to(ROOT)}: {said[:100]}")
    assert not bare, bare


def _modules(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            if isinstance(key, str) and key.count(".") == 2:
                yield key, value
            yield from _modules(value)
    elif isinstance(node, list):
        for item in node:
            yield from _modules(item)


# Python --------------------------------------------------------------------------------------------------------------


@cache
def _trees() -> list[tuple[Path, str, ast.Module]]:
    found_trees = []
    for path in tracked():
        if path.suffix == ".py" or path == ROOT / "skerry":
            text = path.read_text(encoding="utf-8")
            found_trees.append((path.relative_to(ROOT), text, ast.parse(text)))
    return found_trees


def test_files_and_functions_are_small() -> None:
    large = [f"{name} has {text.count(chr(10))} lines" for name, text, _ in _trees() if text.count("\n") > 500]
    for name, _, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and name.parts[0] != "tests":
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 60:
                    large.append(f"{name}:{node.lineno}: {node.name} has {length} lines")
    assert not large, large


def test_no_exception_is_swallowed() -> None:
    """A handler that does nothing says why it is right to, in a comment."""
    places = []
    for name, text, tree in _trees():
        source = text.splitlines()
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler) and len(node.body) == 1 and isinstance(node.body[0], ast.Pass):
                own_lines = source[node.lineno - 1 : node.body[0].lineno]
                if not any("#" in line for line in own_lines):
                    places.append(f"{name}:{node.lineno}")
    assert not places, places


def _asserts(node: ast.AST) -> bool:
    return any(isinstance(inner, ast.Assert) for inner in ast.walk(node))


def _calls(node: ast.AST) -> set[str]:
    calls = [inner for inner in ast.walk(node) if isinstance(inner, ast.Call)]
    return {c.func.attr if isinstance(c.func, ast.Attribute) else getattr(c.func, "id", "") for c in calls}


def test_every_test_can_fail() -> None:
    words = ("assert", "raises", "expect", "check", "verify", "warns")
    harmless = []
    for name, _, tree in _trees():
        if not name.name.startswith("test_"):
            continue
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        helpers = {
            function.name for function in functions
            if _asserts(function) or any(call.startswith(words) for call in _calls(function))
        }
        for function in functions:
            if function.name.startswith("test_") and not _asserts(function):
                calls = _calls(function)
                if not calls & helpers and not any(call.startswith(words) for call in calls):
                    harmless.append(f"{name}:{function.lineno}: {function.name}")
    assert not harmless, harmless


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_says_what_it_prints(script: Path) -> None:
    if "__main__" not in script.read_text(encoding="utf-8"):
        pytest.skip("a module of the other scripts")
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip().splitlines()) > 2


# Documents -----------------------------------------------------------------------------------------------------------


def test_links_between_documents_lead_somewhere() -> None:
    link = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
    links = [(name, number, target) for name, number, line in lines({".md"}) for target in link.findall(line)]
    dead = [f"{name}:{number}: {target}" for name, number, target in links
            if "://" not in target and not (ROOT / name.parent / target).exists()]
    assert not dead, dead


def test_pages_that_messages_and_comments_name_exist() -> None:
    named = {(str(name), page) for name, _, line in lines(CODE_FILES) for page in re.findall(r"docs/[\w-]+\.md", line)}
    dead = sorted(f"{name}: {page}" for name, page in named if not (ROOT / page).exists())
    assert not dead, dead


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    absent = [path.name for path in sorted((ROOT / "docs").glob("*.md")) if path.name != "README.md"
              and f"({path.name})" not in index]
    assert not absent, f"not named in docs/README.md: {absent}"


# Inventories ---------------------------------------------------------------------------------------------------------


def test_the_site_variables_are_those_of_group_vars() -> None:
    text = (ROOT / "group_vars" / "all.yml").read_text(encoding="utf-8")
    commented = dict(re.findall(r"^# ?(skerry_\w+):\s*(.*)$", text, re.MULTILINE))
    shown = {name: yaml.safe_load(value) for name, value in commented.items()}
    elsewhere = ("skerry_reset_", "sandbox_")  # given with -e each time, or set in the sandbox inventories
    settings = {name: option.default for name, option in site_options().items() if not name.startswith(elsewhere)}
    assert shown == settings


def test_the_labs_commented_variables_exist() -> None:
    known = {name for role in ROLES.values() for name in role.options} | set(site_options())
    named = set()
    for name, _, line in lines({".yml"}, "inventories"):
        if name.parts[1] == "lab" and (hit := re.match(r"\s*#\s((?:skerry|" + "|".join(ROLES) + r")_\w+):", line)):
            named.add(hit[1])
    assert named
    assert named <= known, f"commented, but in no spec: {sorted(named - known)}"
    for role in ROLES.values():
        assert set(role.entry_points["main"].options) <= named, f"the lab does not show all of {role.name}"
