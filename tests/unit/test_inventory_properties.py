"""Properties of reading and judging inventories, for inputs that nobody thought of."""

from __future__ import annotations

import string
import tempfile
from pathlib import Path

import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from skerry.inventory.check import check, examine
from skerry.inventory.findings import NOT_A_CHOICE, WRONG_TYPE
from skerry.inventory.model import expand, load
from skerry.inventory.names import EFFECTS, is_dns_name, is_label_key, is_label_value, is_taint
from skerry.inventory.rules_variables import unknown
from skerry.inventory.specs import Option, load_roles, site_options
from skerry.inventory.values import check as check_value
from skerry.inventory.values import templated

NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
KNOWN = sorted({name for role in load_roles().values() for name in role.options} | set(site_options()))


FOLDER = tempfile.TemporaryDirectory(prefix="skerry-inventory-")  # one for all examples, removed with the process


def in_folder(text: str) -> Path:
    folder = Path(FOLDER.name)
    (folder / "hosts.yml").write_text(text, encoding="utf-8", errors="replace")
    return folder


@given(st.text(max_size=300))
def test_any_text_is_read_or_has_a_fault_with_a_line(text: str) -> None:
    inventory = load(in_folder(text))
    assert all(fault.line >= 1 for _, fault in inventory.faults)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=20,
))
def test_any_yaml_can_be_checked(value: object) -> None:
    report = check(in_folder(yaml.safe_dump({"all": {"children": value, "vars": value}})), ask_ansible=False)
    assert all(finding.cause and finding.remedy for finding in report.findings)


@given(st.dictionaries(NAMES, st.lists(NAMES, unique=True, max_size=6), min_size=1, max_size=5))
def test_every_host_of_every_group_is_found(groups: dict[str, list[str]]) -> None:
    children = {name: {"hosts": dict.fromkeys(hosts)} for name, hosts in groups.items()}
    inventory = load(in_folder(yaml.safe_dump({"all": {"children": children}})))
    assert inventory.faults == []
    assert set(inventory.hosts) == {host for hosts in groups.values() for host in hosts}
    assert all(inventory.members(name) == set(hosts) for name, hosts in groups.items() if name != "all")


@given(st.integers(0, 200), st.integers(0, 60), st.integers(1, 7), st.integers(1, 4))
def test_ranges_expand_to_what_they_count(first: int, count: int, step: int, width: int) -> None:
    last = first + count
    names = expand(f"n[{first:0{width}}:{last}:{step}]-x")
    numbers = [int(name.removeprefix("n").removesuffix("-x")) for name in names]
    assert numbers == list(range(first, last + 1, step))
    assert len(set(names)) == len(names)


@given(st.sampled_from(KNOWN), st.integers(0, 1000), st.sampled_from(string.ascii_lowercase))
def test_one_wrong_letter_is_found_and_the_right_name_offered(name: str, position: int, letter: str) -> None:
    head = name.index("_") + 1  # the prefix stays: that it is one of ours is how it is known to be meant
    at = head + position % (len(name) - head)
    wrong = name[:at] + letter + name[at + 1 :]
    if wrong in KNOWN:
        return
    context = examine(load(in_folder(yaml.safe_dump({"all": {"hosts": {"one": {wrong: "x"}}}}))), None)
    (finding,) = unknown(context)
    assert finding.key == wrong
    assert "did you mean" in finding.remedy


@given(st.text(max_size=80))
def test_a_label_value_is_what_kubernetes_says(value: str) -> None:
    allowed = string.ascii_letters + string.digits
    expected = value == "" or (
        len(value) <= 63 and value[0] in allowed and value[-1] in allowed and all(c in allowed + "-_." for c in value)
    )
    assert is_label_value(value) == expected


@given(
    st.text(alphabet="abzAZ09-_./:=", max_size=20), st.text(alphabet="ab09-_.", max_size=10), st.sampled_from(EFFECTS)
)
def test_a_taint_is_a_key_a_value_and_an_effect(key: str, value: str, effect: str) -> None:
    whole = is_label_key(key) and is_label_value(value)
    if "=" not in key and ":" not in key:
        assert is_taint(f"{key}={value}:{effect}") == whole
    assert not is_taint(f"{key}={value}")


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_names_joined_by_dots_are_names(parts: list[str]) -> None:
    assert is_dns_name(".".join(parts))
    assert not is_dns_name(".".join(parts) + ".")
    assert not is_dns_name("_" + ".".join(parts))


@example("{")
@example("a=")
@example("{'a': 1}")
@example('{"a": true}')
@given(
    st.one_of(
        st.integers(), st.booleans(), st.text(max_size=10), st.text("{}=a1,'\" :", max_size=8),
        st.lists(st.integers(), max_size=2), st.dictionaries(NAMES, st.integers(), max_size=2),
    )
)
def test_types_agree_with_ansible(value: object) -> None:
    """What Ansible's own converters refuse, we refuse; a template is left to Ansible."""
    from ansible.module_utils.common.validation import check_type_bool, check_type_dict, check_type_int, check_type_list

    assume(not templated(value))
    for kind, convert in (("bool", check_type_bool), ("int", check_type_int), ("list", check_type_list),
                          ("dict", check_type_dict)):
        try:
            convert(value)
            refused = False
        except (TypeError, ValueError):
            refused = True
        found = [problem.rule for problem in check_value(Option("x", kind), value)]
        if refused:
            assert found == [WRONG_TYPE], (kind, value)


@given(st.lists(NAMES, min_size=1, unique=True), NAMES)
def test_a_choice_is_one_of_the_choices(choices: list[str], value: str) -> None:
    found = [problem.rule for problem in check_value(Option("x", choices=tuple(choices)), value)]
    assert found == ([] if value in choices else [NOT_A_CHOICE])
