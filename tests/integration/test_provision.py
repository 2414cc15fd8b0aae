"""``skerry provision`` as a process, on hosts that are this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

INVENTORY = """
all:
  vars:
    ansible_connection: local
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  hosts:
    a:
    b:
    gone: {ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 1}
"""

PLAYBOOK = """
- name: Small
  hosts: all
  gather_facts: false
  tasks:
    - name: Touch
      ansible.builtin.file: {path: "FOLDER/{{ inventory_hostname }}", state: touch, mode: "0644"}
    - name: Coded
      ansible.builtin.fail:
        msg: "PREFLIGHT_007 too little memory | remedy: add some"
      when: inventory_hostname == 'b'
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    (tmp_path / "play.yml").write_text(PLAYBOOK.replace("FOLDER", str(tmp_path)))
    return tmp_path


def provision(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [
        str(ROOT / "skerry"),
        "provision",
        "-i",
        str(site / "inventory.yml"),
        "--playbook",
        str(site / "play.yml"),
    ]
    return subprocess.run([*command, *words], capture_output=True, text=True, timeout=60, check=False)


def test_json_tells_every_host_apart(site: Path) -> None:
    done = provision(site, "--json")
    assert done.returncode == 1, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["hosts"]["a"] == {"ok": 1, "changed": 1, "unreachable": False, "failures": []}
    assert told["hosts"]["b"]["failures"][0]["code"] == "PREFLIGHT_007"
    assert told["hosts"]["gone"]["unreachable"]
    assert told["hosts"]["gone"]["failures"][0]["code"] == "HOST_001"
    assert "too little memory" in Path(told["log"]).read_text()


def test_people_see_cause_and_remedy(site: Path) -> None:
    done = provision(site)
    assert "PREFLIGHT_007 on b: too little memory" in done.stdout
    assert "remedy: add some" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_exit_codes(site: Path) -> None:
    assert provision(site, "--limit", "a").returncode == 0
    assert provision(site, "--limit", "gone").returncode == 4
    missing = subprocess.run(
        [str(ROOT / "skerry"), "provision", "-i", str(site / "no")], capture_output=True, text=True, check=False
    )
    assert missing.returncode == 2
    assert missing.stderr.startswith("PROVISION_001")


def test_check_mode_changes_nothing(site: Path) -> None:
    assert provision(site, "--check", "--limit", "a").returncode == 0
    assert not (site / "a").exists()


def test_playbook_that_does_not_parse(site: Path) -> None:
    (site / "play.yml").write_text("- hosts: all\n  bad: 1\n")
    done = provision(site)
    assert done.returncode == 2
    assert "PROVISION_007" in done.stdout
    assert "'bad' is not a valid attribute" in done.stdout
    assert f"{site / 'play.yml'}:2" in done.stdout


def test_inventory_that_does_not_parse(site: Path) -> None:
    (site / "inventory.yml").write_text("all: {hosts: [}\n")
    done = provision(site)
    assert done.returncode == 2
    assert "PROVISION_005" in done.stdout
    assert f"{site / 'inventory.yml'}:1:12" in done.stdout


def test_limit_that_matches_nothing(site: Path) -> None:
    done = provision(site, "--limit", "nobody", "--json")
    assert done.returncode == 2
    told = json.loads(done.stdout)
    assert told["hosts"] == {}
    assert [found["code"] for found in told["errors"]] == ["PROVISION_003"]


def test_limit_with_an_unknown_name_does_the_others(site: Path) -> None:
    done = provision(site, "--limit", "a,gonee", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["hosts"]["a"]["changed"] == 1
    (found,) = told["errors"]
    assert found["code"] == "PROVISION_003"
    assert "gonee" in found["cause"]
    assert "did you mean gone?" in found["remedy"]


def test_vaulted_value_without_its_password(site: Path) -> None:
    text = (site / "play.yml").read_text().replace("file: {path:", "file: {path: '{{ secret }}', x:")
    (site / "play.yml").write_text(text)
    locked = subprocess.run(
        [str(ROOT / ".venv" / "bin" / "ansible-vault"), "encrypt_string", "--vault-password-file", "/dev/stdin",
         "--name", "secret", "hush-hush"],
        input="key", capture_output=True, text=True, check=True,
    )  # fmt: skip
    (site / "group_vars").mkdir()
    (site / "group_vars" / "all.yml").write_text(locked.stdout)
    done = provision(site, "--limit", "a", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["hosts"]["a"]["failures"][0]["code"] == "PROVISION_006"
    assert "hush" not in done.stdout + done.stderr + Path(told["log"]).read_text()


def test_host_keys_are_checked_though_the_runner_would_not(site: Path) -> None:
    (site / "play.yml").write_text(
        "- hosts: a\n  gather_facts: false\n  tasks:\n    - ansible.builtin.debug:\n"
        "        msg: \"checked={{ lookup('ansible.builtin.config', 'HOST_KEY_CHECKING') }}\"\n"
    )
    told = json.loads(provision(site, "--json").stdout)
    assert "checked=True" in Path(told["log"]).read_text()


def test_mitogen_is_asked_for_where_it_is_missing(site: Path) -> None:
    if importlib.util.find_spec("ansible_mitogen"):
        pytest.skip("mitogen is installed here")
    done = provision(site, "--mitogen")
    assert done.returncode == 3
    assert "PROVISION_009" in done.stderr
    assert "pip install mitogen" in done.stderr


def test_mitogen_runs_a_play(site: Path) -> None:
    if not importlib.util.find_spec("ansible_mitogen"):
        pytest.skip("the package mitogen is not installed: it is offered and not part of the lock (docs/speed.md)")
    (site / "play.yml").write_text(
        "- hosts: a\n  gather_facts: false\n  tasks:\n    - ansible.builtin.file:\n"
        f"        path: {site}/made\n        state: touch\n        mode: '0600'\n"
        "    - ansible.builtin.debug:\n        msg: \"by {{ lookup('ansible.builtin.config', 'DEFAULT_STRATEGY') }}\"\n"
    )
    done = provision(site, "--mitogen", "--json")
    assert done.returncode == 0, done.stdout
    assert "by mitogen_linear" in Path(json.loads(done.stdout)["log"]).read_text()
    assert (site / "made").stat().st_mode & 0o777 == 0o600


def test_interrupt_stops_and_a_second_run_carries_on(site: Path) -> None:
    text = (site / "play.yml").read_text()
    (site / "play.yml").write_text(
        text + "    - name: Long\n      ansible.builtin.command: sleep 60\n      changed_when: false\n"
    )
    command = [
        str(ROOT / "skerry"),
        "provision",
        "-i",
        str(site / "inventory.yml"),
        "--playbook",
        str(site / "play.yml"),
    ]
    process = subprocess.Popen([*command, "--limit", "a"], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    deadline = time.monotonic() + 30
    while not (site / "a").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)  # into the long task
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "carries on" in output
    (site / "play.yml").write_text(text)
    assert provision(site, "--limit", "a").returncode == 0
