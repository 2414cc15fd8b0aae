"""Every finding of `skerry inventory check`: one broken inventory for each code, with the line that it names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from skerry import paths
from skerry.errors import SkerryError
from skerry.inventory import findings
from skerry.inventory.check import check
from skerry.inventory.findings import Rule, Severity

GOOD = """\
all:
  children:
    skerry_servers:
      hosts:
        one:
          ansible_host: 192.0.2.1
    skerry_agents:
      hosts:
        two:
          ansible_host: 192.0.2.2
        three:
          ansible_host: 192.0.2.3
"""


@dataclass
class Case:
    """A broken inventory: GOOD with replacements, other files beside it, and what has to be found where."""

    rule: Rule
    key: str
    line: int | None = None
    change: tuple[str, str] = ("", "")
    files: dict[str, str] = field(default_factory=dict)
    said: str = ""
    ansible: bool = False
    text: str = GOOD

    def write(self, folder: Path) -> Path:
        old, new = self.change
        assert old in self.text, "the case does not change what it says"
        (folder / "hosts.yml").write_text(self.text.replace(old, new, 1) if old else self.text)
        for name, text in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder


def var(line: str) -> tuple[str, str]:
    """A change of GOOD: ``line`` as one more variable of host two (line 11 of the file)."""
    return "192.0.2.2\n", f"192.0.2.2\n          {line}\n"


CASES = [
    Case(findings.NOT_YAML, "", 11, ("192.0.2.2\n", "192.0.2.2\n         bad: [\n")),
    Case(findings.DUPLICATE_KEY, "ansible_host", 11, var("ansible_host: 192.0.2.9"), said="line 10"),
    Case(findings.STRUCTURE, "host", 8, ("skerry_agents:\n      hosts:", "skerry_agents:\n      host:")),
    Case(findings.STRUCTURE, "hosts of plain", 15, text=GOOD + "    plain:\n      hosts:\n        - four\n"),
    Case(findings.ANSIBLE, "", None, files={"zz.yml": "plugin: no.such.plugin\n"}, ansible=True),
    Case(findings.VAULT, "", None, files={"group_vars/all.yml": "$ANSIBLE_VAULT;1.1;AES256\n6162\n"}, ansible=True),
    Case(findings.NO_HOSTS, "all", None, text="all:\n  children:\n    x:\n"),
    Case(findings.UNKNOWN_HOST, "thre", 13, ("192.0.2.3\n", "192.0.2.3\n        thre:\n"), said="mean three?"),
    Case(findings.UNKNOWN_HOST, "twoo", 1, files={"host_vars/twoo.yml": "---\n{}\n"}, said="did you mean two?"),
    Case(findings.UNKNOWN_GROUP, "skerry_agent", 1, files={"group_vars/skerry_agent.yml": "---\n{}\n"}),
    Case(findings.UNKNOWN_GROUP, "zone_aa", 15,
         text=GOOD + "    far:\n      children:\n        zone_aa:\n    zone_ab:\n      hosts:\n        two:\n"),
    Case(findings.HOST_NAME, "Two_1", 9, ("two:", "Two_1:")),
    Case(findings.SAME_NAME, "skerry_agents", 9, ("two:", "skerry_agents:")),
    Case(findings.UNKNOWN_VARIABLE, "k3s_verison", 11, var("k3s_verison: v1.36.5+k3s1"), said="k3s_version"),
    Case(findings.UNKNOWN_VARIABLE, "skerry_regoin", 2, files={"group_vars/all/a.yml": "---\nskerry_regoin: eu\n"}),
    Case(findings.WRONG_TYPE, "skerry_airgap", 11, var("skerry_airgap: maybe"), said="true or false"),
    Case(findings.WRONG_TYPE, "k3s_node_labels", 11, var("k3s_node_labels: [a, b]")),
    Case(findings.NOT_A_CHOICE, "skerry_host_type", 11, var("skerry_host_type: egde"), said="edge"),
    Case(findings.NOT_A_CHOICE, "skerry_arch", 11, var("skerry_arch: arm32"), said="mean arm?"),
    Case(findings.MISSING_KEY, "k3s_airgap_images.0", 12,
         var("k3s_airgap_images:\n            - component: images")),
    Case(findings.UNKNOWN_KEY, "k3s_airgap_images.0.fiel", 14,
         var("k3s_airgap_images:\n            - component: images\n              file: a\n              fiel: b")),
    Case(findings.PRIVATE, "__k3s_dir", 11, var("__k3s_dir: /opt")),
    Case(findings.LIKELY_TYPO, "ansible_hots", 11, var("ansible_hots: 192.0.2.9"), said="ansible_host"),
    Case(findings.ADDRESS_TWICE, "ansible_host", 12, ("192.0.2.3", "192.0.2.2"), said="two"),
    Case(findings.ADDRESS, "ansible_host", 10, ("192.0.2.2", "https://two.example.org:22")),
    Case(findings.ADDRESS, "ansible_host", 10, ("192.0.2.2", "192.0.2.256")),
    Case(findings.PORT, "ansible_port", 11, var("ansible_port: 70000")),
    Case(findings.KEY_FILE, "ansible_ssh_private_key_file", 11, var("ansible_ssh_private_key_file: /nowhere/id")),
    Case(findings.NO_BECOME, "ansible_become", 11, var("ansible_become: false")),
    Case(findings.HOST_KEYS, "ansible_ssh_common_args", 11,
         var("ansible_ssh_common_args: -o StrictHostKeyChecking=no")),
    Case(findings.EVEN_SERVERS, "skerry_servers", 3,
         ("192.0.2.1\n", "192.0.2.1\n        four:\n          ansible_host: 192.0.2.4\n"), said="2 hosts"),
    Case(findings.TWO_ROLES, "one", 9, ("        two:\n", "        one:\n        two:\n")),
    Case(findings.NO_SERVER, "skerry_agents", 6, ("skerry_servers", "others"), said="3 agents", text="""\
all:
  children:
    skerry_servers:
    skerry_agents:
      hosts:
        one:
        two:
        three:
"""),
    Case(findings.SERVER_ARMV7, "one", 5, text=GOOD + "    arch_armv7:\n      hosts:\n        one:\n"),
    Case(findings.TWO_TYPES, "two", 17, text=GOOD + """\
    skerry_cloud:
      hosts: {two: }
    skerry_edge:
      hosts:
        two:
"""),
    Case(findings.ZONE_TWICE, "skerry_zone", None, ansible=True, files={
        "host_vars/two.yml": "skerry_region: eu\nskerry_zone: a\n",
        "host_vars/three.yml": "skerry_region: us\nskerry_zone: a\n",
    }),
    Case(findings.NO_PLACE, "skerry_region", 5, var("skerry_region: eu"), ansible=True),
    Case(findings.LABEL, "skerry_zone", 11, var("skerry_zone: hall 3")),
    Case(findings.LABEL, "k3s_node_labels.bad key", 12, var("k3s_node_labels:\n            bad key: x")),
    Case(findings.LABEL, "k3s_node_labels.a/b", 12, var("k3s_node_labels:\n            a/b: -x")),
    Case(findings.TAINT, "k3s_node_taints.1", 13,
         var("k3s_node_taints:\n            - a=b:NoSchedule\n            - a=b")),
    Case(findings.PLAIN_SECRET, "ansible_become_password", 11, var("ansible_become_password: hunter2")),
    Case(findings.PLAIN_SECRET, "k3s_token", 11, var("k3s_token: abcdefghijklmnop")),
    Case(findings.PLAIN_SECRET, "skerry_http_proxy", 11, var("skerry_http_proxy: http://me:hunter2@proxy:3128")),
    Case(findings.PLAIN_SECRET, "site.keys.0", 13,
         var("site:\n            keys:\n              - '-----BEGIN OPENSSH PRIVATE KEY-----'")),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule.code}-{case.key or 'file'}")
def test_each_mistake_is_found_at_its_line(case: Case, tmp_path: Path) -> None:
    report = check(case.write(tmp_path), ask_ansible=case.ansible)
    found = [item for item in report.findings if item.rule is case.rule]
    told = "\n".join(f"{item.rule.code} {item.line} {item.key}: {item.cause}" for item in report.findings)
    assert any(item.key == case.key and (case.line is None or item.line == case.line) for item in found), told
    assert any(case.said in f"{item.cause} {item.remedy}" for item in found), told
    assert all(item.remedy for item in found)


def test_every_rule_has_a_broken_inventory() -> None:
    rules = {rule for rule in vars(findings).values() if isinstance(rule, Rule)}
    tested = {case.rule.code for case in CASES} | {findings.KEY_MODE.code, findings.OVERRIDDEN.code}
    assert {rule.code for rule in rules} == tested
    assert len({rule.code for rule in rules}) == len(rules), "two rules share a code"


def test_a_good_inventory_has_no_findings(tmp_path: Path) -> None:
    report = check(Case(findings.NOT_YAML, "").write(tmp_path))
    assert report.findings == []
    assert set(report.context.hosts) == {"one", "two", "three"}


@pytest.mark.parametrize("name", ["lab", "continuum", "sandbox"])
def test_our_own_inventories_are_clean(name: str) -> None:
    report = check(paths.root() / "inventories" / name)
    assert [f"{item.file}:{item.line} {item.cause}" for item in report.findings] == []


def test_a_key_that_others_may_read(tmp_path: Path) -> None:
    key = tmp_path / "id"
    key.write_text("x")
    key.chmod(0o644)
    folder = tmp_path / "inventory"
    folder.mkdir()
    case = Case(findings.KEY_MODE, "", change=var(f"ansible_ssh_private_key_file: {key}"))
    (found,) = check(case.write(folder), ask_ansible=False).findings
    assert found.rule is findings.KEY_MODE
    assert "0644" in found.cause
    key.chmod(0o600)
    assert check(folder, ask_ansible=False).findings == []


def test_a_value_that_the_project_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    (project / "group_vars").mkdir(parents=True)
    (project / "group_vars" / "all.yml").write_text("---\nskerry_airgap: true\n")
    folder = tmp_path / "inventory"
    folder.mkdir()
    case = Case(findings.OVERRIDDEN, "", files={"group_vars/all.yml": "---\nskerry_airgap: false\n"})
    case.write(folder)
    monkeypatch.setenv("SKERRY_ROOT", str(project))
    (found,) = check(folder, ask_ansible=False).findings
    assert (found.rule, found.line, found.key) == (findings.OVERRIDDEN, 2, "skerry_airgap")


def test_secrets_in_the_vault_and_templates_are_left_alone(tmp_path: Path) -> None:
    secret = "!vault |\n            $ANSIBLE_VAULT;1.1;AES256\n            6162"
    case = Case(findings.PLAIN_SECRET, "", change=var(f"ansible_become_password: {secret}"))
    assert check(case.write(tmp_path), ask_ansible=False).findings == []
    case.change = var("k3s_token: \"{{ lookup('env', 'TOKEN') }}\"")
    assert check(case.write(tmp_path), ask_ansible=False).findings == []


def test_an_ini_inventory_is_read_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "hosts.ini"
    path.write_text("""\
[skerry_servers]
one ansible_host=192.0.2.1

[skerry_agents]
edge[01:03] ansible_port=22
two ansible_host=192.0.2.1 k3s_verison=x

[skerry_agents:vars]
skerry_airgap=maybe
""")
    report = check(path, ask_ansible=False)
    assert set(report.context.hosts) == {"one", "two", "edge01", "edge02", "edge03"}
    assert [(item.rule.code, item.line) for item in report.findings] == [
        (findings.UNKNOWN_VARIABLE.code, 6),
        (findings.ADDRESS_TWICE.code, 6),
        (findings.WRONG_TYPE.code, 9),
    ]


def test_groups_made_by_a_plugin_are_known(tmp_path: Path) -> None:
    case = Case(findings.UNKNOWN_GROUP, "", files={
        "zz.yml": "plugin: ansible.builtin.constructed\nstrict: true\ngroups:\n  big: inventory_hostname == 'two'\n",
        "group_vars/big.yml": "---\nsite_size: big\n",
    })
    assert check(case.write(tmp_path)).findings == []


def test_nothing_to_read_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(SkerryError) as caught:
        check(tmp_path / "none")
    assert caught.value.code == "INVENTORY_001"
    assert caught.value.exit_code == 2


def test_warnings_are_no_errors(tmp_path: Path) -> None:
    case = Case(findings.LIKELY_TYPO, "", change=var("ansible_hots: 192.0.2.9"))
    report = check(case.write(tmp_path), ask_ansible=False)
    assert (report.count(Severity.ERROR), report.count(Severity.WARNING)) == (0, 1)
