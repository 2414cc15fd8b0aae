"""`skerry test` itself: outcomes are honest, one failure hides nothing, hosts are removed whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skerry import paths
from skerry.testing.reports import Counts, read
from skerry.testing.runner import Outcome, Result, Runner, Running
from skerry.testing.stages import Mode, Need, Stage, plan
from skerry.testing.view import summary, totals


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs of these runs lie in a place of their own."""
    monkeypatch.setenv("SKERRY_ROOT", str(tmp_path))
    (tmp_path / ".skerry" / "test" / "junit").mkdir(parents=True)


def script(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def stage(name: str, *commands: str, deadline: float = 30, **more: object) -> Stage:
    return Stage(name, tuple(script(code) for code in commands), deadline, **more)  # type: ignore[arg-type]


def run(*stages: Stage, unmet: dict[Need, str] | None = None) -> dict[str, Result]:
    runner = Runner((unmet or {}).get, lambda running, result: None)
    return {result.stage.name: result for result in runner.run(stages)}


def test_a_failure_hides_no_other_stage() -> None:
    found = run(stage("bad", "raise SystemExit(3)"), stage("good", "print('fine')"))
    assert found["bad"].outcome is Outcome.FAILED
    assert found["good"].outcome is Outcome.PASSED
    assert "fine" in found["good"].stage.log().read_text()


def test_every_command_of_a_stage_runs_and_one_failure_is_enough() -> None:
    found = run(stage("two", "raise SystemExit(1)", "print('second')"))["two"]
    assert found.outcome is Outcome.FAILED
    assert "second" in found.stage.log().read_text()


def test_a_stage_past_its_deadline_is_ended_with_its_children(tmp_path: Path) -> None:
    child = tmp_path / "child"
    code = ("import subprocess, sys, time, pathlib\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            f"pathlib.Path({str(child)!r}).write_text(str(child.pid)); time.sleep(60)")
    found = run(stage("slow", code, deadline=1.5))["slow"]
    assert found.outcome is Outcome.TIMEOUT
    assert "1 s" in found.reason or "2 s" in found.reason
    pid = int(child.read_text())
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists() or "Z (zombie)" in Path(f"/proc/{pid}/status").read_text():
            return
        time.sleep(0.1)
    pytest.fail(f"process {pid} of the ended stage still runs")


def test_the_time_of_the_whole_run_ends_it_and_hosts_go_all_the_same() -> None:
    runner = Runner(lambda need: None, lambda running, result: None, total=1.0)
    runner.run([
        stage("hosts up", "print('up')"),
        stage("long", "import time; time.sleep(60)"),
        stage("later", "print('x')"),
        stage("hosts down", "print('gone')", always=True, cleans=("hosts up",)),
    ])
    assert [(r.stage.name, r.outcome) for r in runner.results] == [
        ("hosts up", Outcome.PASSED),
        ("long", Outcome.TIMEOUT),
        ("later", Outcome.NOT_RUN),
        ("hosts down", Outcome.PASSED),
    ]


def test_what_needs_a_failed_stage_is_not_run_and_cleaning_up_is() -> None:
    found = run(
        stage("hosts up", "raise SystemExit(1)"),
        stage("role", "print('x')", requires=("hosts up",)),
        stage("hosts down", "print('gone')", always=True, cleans=("hosts up",)),
    )
    assert found["role"].outcome is Outcome.NOT_RUN
    assert found["role"].bad
    assert found["hosts down"].outcome is Outcome.PASSED


def test_a_stage_waits_for_what_it_requires_and_holds_nobody_up(tmp_path: Path) -> None:
    order = tmp_path / "order"

    def noting(name: str, seconds: float) -> str:
        return f"import time; time.sleep({seconds}); open({str(order)!r}, 'a').write('{name} ')"

    found = run(
        stage("build", noting("build", 1.0), together=True),
        stage("tests", noting("tests", 0), together=True, requires=("build",)),
        stage("other", noting("other", 0), together=True),
    )
    assert order.read_text().split() == ["other", "build", "tests"]
    assert all(one.outcome is Outcome.PASSED for one in found.values())


def test_stages_that_share_hosts_run_one_after_another_beside_the_rest(tmp_path: Path) -> None:
    events = tmp_path / "events"

    def noting(name: str, seconds: float) -> str:
        note = f"open({str(events)!r}, 'a').write"
        return f"import time; {note}('{name}+ '); time.sleep({seconds}); {note}('{name}- ')"

    run(
        stage("one", noting("one", 1.0)),
        stage("two", noting("two", 0)),
        stage("beside", noting("beside", 3.0), together=True),
    )
    seen = events.read_text().split()
    assert [event for event in seen if "beside" not in event] == ["one+", "one-", "two+", "two-"]
    assert seen.index("beside+") < seen.index("one-")
    assert seen.index("two-") < seen.index("beside-")


def test_an_unmet_need_skips_with_its_reason_and_leaves_nothing_to_clean() -> None:
    found = run(
        stage("hosts up", "print('x')", needs=(Need.HOSTS,)),
        stage("hosts down", "print('x')", always=True, cleans=("hosts up",)),
        unmet={Need.HOSTS: "no root here"},
    )
    assert (found["hosts up"].outcome, found["hosts up"].reason) == (Outcome.SKIPPED, "no root here")
    assert not found["hosts up"].bad
    assert "hosts down" not in found


def test_a_stage_without_the_report_that_it_owes_has_failed() -> None:
    found = run(stage("quiet", "print('nothing tested')", junit=True))["quiet"]
    assert found.outcome is Outcome.FAILED
    assert "no report" in found.reason


def test_pytests_own_report_is_counted(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_a(): assert True\n"
        "def test_b(): assert False\n"
        "@pytest.mark.skip(reason='no browser')\n"
        "def test_c(): assert True\n"
    )
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", str(tmp_path)]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    counts = read(report)
    assert counts is not None
    assert counts.passed == 1
    assert [(name.split("::")[1], why) for name, why in counts.failed] == [("test_b", "assert False")]
    assert [(name.split("::")[1], why) for name, why in counts.skipped] == [("test_c", "no browser")]


def test_the_last_lines_name_what_was_skipped_and_count_everything() -> None:
    unit = Counts(5, [("t::bad", "1 is not 2")], [("t::gui", "no browser")])
    role = Counts(1, [], [("t::a[1]", "no k3s"), ("t::a[2]", "no k3s")])
    results = [
        Result(stage("unit"), Outcome.FAILED, 3, counts=unit),
        Result(stage("role k8s"), Outcome.PASSED, 9, counts=role),
        Result(stage("role k3s"), Outcome.SKIPPED, 0, "no root here"),
        Result(stage("ruff"), Outcome.PASSED, 1),
        Result(stage("e2e"), Outcome.NOT_RUN, 0, "hosts up did not succeed"),
    ]
    assert totals(results) == {"failed": 2, "passed": 7, "skipped": 4}
    text = summary(results, 12.345)
    assert text[-1] == "== 2 failed, 7 passed, 4 skipped in 12.35s =="
    assert "  unit, t::gui: no browser" in text
    assert "  role k3s: no root here" in text
    assert "  role k8s, 2 cases of a: no k3s" in text
    assert "failed: e2e (not run): hosts up did not succeed" in text[-2]
    assert text.index("  t::bad: 1 is not 2") > text.index("  unit, t::gui: no browser"), "what failed comes last"


def test_an_interruption_ends_what_runs_and_still_cleans_up(tmp_path: Path) -> None:
    program = f"""
import json, sys
from skerry.testing.runner import Runner
from skerry.testing.stages import Stage
def script(code): return (({sys.executable!r}, "-c", code),)
runner = Runner(lambda need: None, lambda running, result: None)
try:
    runner.run([Stage("hosts up", script("print('up')"), 30), Stage("long", script("import time; time.sleep(60)"), 90),
                Stage("after", script("print('x')"), 30),
                Stage("down", script("print('down')"), 30, always=True, cleans=("hosts up",))])
except KeyboardInterrupt:
    print(json.dumps({{r.stage.name: [r.outcome.value, r.reason] for r in runner.results}}))
"""
    environment = {**os.environ, "SKERRY_ROOT": str(tmp_path), "PYTHONPATH": str(Path(paths.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
    log = tmp_path / ".skerry" / "test" / "long.log"
    for _ in range(100):
        if log.exists():
            break
        time.sleep(0.1)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert json.loads(out) == {
        "hosts up": ["ok", ""],
        "long": ["failed", "interrupted"],
        "after": ["not run", "interrupted"],
        "down": ["ok", ""],
    }


def test_a_stage_sees_its_own_environment(tmp_path: Path) -> None:
    item = stage("env", "import os; print(os.environ['MARK'], os.environ['SKERRY_ROOT'])", environment={"MARK": "seen"})
    running = Running(item)
    running.start()
    while not running.poll():
        time.sleep(0.05)
    assert f"seen {tmp_path}" in item.log().read_text()


def test_the_plan_makes_hosts_before_roles_and_removes_them_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKERRY_ROOT")
    names = [item.name for item in plan(Mode.DEFAULT)]
    roles = [name for name in names if name.startswith("role ")]
    assert names[-1] == "hosts down"
    assert all(names.index("hosts up") < names.index(role) < names.index("e2e") for role in roles)
    assert len(set(names)) == len(names)
    assert not any("host" in name for name in (item.name for item in plan(Mode.QUICK)))


def test_one_role_brings_its_hosts_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKERRY_ROOT")
    role = next(item.name for item in plan(Mode.DEFAULT) if item.name.startswith("role "))
    assert [item.name for item in plan(Mode.DEFAULT, [role.removeprefix("role ")])] == ["hosts up", role, "hosts down"]
