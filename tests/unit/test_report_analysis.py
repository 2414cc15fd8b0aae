"""Ladders and steps of a made-up run: the rule of steps above all."""

from __future__ import annotations

import json
from pathlib import Path

import made_up_run
import pyarrow.parquet as pq
import pytest

from skerry.bench import results
from skerry.bench.results import Combination
from skerry.errors import SkerryError
from skerry.report import analysis, units
from skerry.report.analysis import Analysis


@pytest.fixture(scope="module")
def found() -> Analysis:
    return analysis.analyse(*made_up_run.make())


def test_steps_are_taken_within_one_engine_version_mode_size_and_host(found: Analysis) -> None:
    assert found.steps
    for step in found.steps:
        assert step.first.host == step.second.host
        assert (step.first.workload, step.first.size) == (step.second.workload, step.second.size)
        if step.kind == "rung":
            assert step.first.series == step.second.series
            assert analysis.RUNGS.index(step.first.rung) < analysis.RUNGS.index(step.second.rung)
        else:
            assert step.first.rung == step.second.rung
            assert (step.first.payload, step.second.payload) == ("native", "wasm")
            assert step.first.via == step.second.via


def test_no_step_joins_two_versions_of_one_engine(found: Analysis) -> None:
    wasmtime = [step for step in found.steps if step.second.engine == "wasmtime"]
    assert wasmtime == []  # embedded has 50.0.1, the command is 48.0.8


def test_no_payload_step_where_the_runtimes_differ() -> None:
    run, rows = made_up_run.make()
    for one in run.combinations:
        if one.rung == "container" and one.payload == "native":
            one.via = "runc 1.1.15"
    steps = analysis.analyse(run, rows).steps
    assert {step.second.rung for step in steps if step.kind == "payload"} == {"pod"}


def test_the_wasmedge_ladder_has_three_steps(found: Analysis) -> None:
    names = [(step.first.rung, step.second.rung) for step in found.steps
             if step.first.host == "cloud-1" and step.first.workload == "hello" and step.kind == "rung"
             and step.second.engine == "wasmedge" and step.metric == "run_seconds"]
    assert names == [("embedded", "process"), ("process", "container"), ("container", "pod")]


def test_a_failed_sample_is_counted_and_in_no_median(found: Analysis) -> None:
    assert len(found.failures()) == 1
    bad = found.failures()[0]
    series = found.series[bad.combination]
    assert len(series.seconds()) == series.combination.planned - 1
    assert bad.run_seconds not in series.seconds()


def test_warm_ups_and_memory_samples_are_in_no_time(found: Analysis) -> None:
    for series in found.series.values():
        assert len(series.seconds()) + len([row for row in series.failed if row.kind == "time"]) == \
            series.combination.planned
        assert all(row.pss_bytes is None for row in series.good("time"))


def test_labels_of_hosts(found: Analysis) -> None:
    said = {host.name: analysis.labels(host) for host in found.hosts()}
    assert said["cloud-1"] == ["shares a machine with edge-1, edge-2"]
    assert said["edge-2"][0] == "emulated"
    assert said["edge-9"] == ["lost"]


def test_missing_rungs_come_in_the_ladders_order(found: Analysis) -> None:
    assert [entry.rung for entry in found.missing("edge-1")] == ["process", "container", "pod"]


def test_json_form_is_json_and_whole(found: Analysis) -> None:
    text = json.loads(json.dumps(analysis.as_dict(found)))
    assert len(text["ladder"]) == len(found.run.combinations)
    assert {entry["metric"] for entry in text["steps"]} == {"run_seconds", "cold_seconds"}
    assert text["missing"][0]["reason"]


def test_results_survive_the_disk(tmp_path: Path) -> None:
    run, rows = made_up_run.make(samples=3)
    place = made_up_run.save(tmp_path / "run", samples=3)
    assert results.load(place) == (run, rows)
    table = pq.read_table(place / "samples.parquet").to_pylist()
    assert len(table) == len(rows)
    for mine, row in zip(table, rows, strict=True):
        assert {**mine, "phases": dict(mine["phases"])} == row.model_dump()


def test_damaged_results_are_a_coded_error(tmp_path: Path) -> None:
    place = made_up_run.save(tmp_path / "run", samples=2)
    lines = (place / "samples.jsonl").read_text().splitlines()
    (place / "samples.jsonl").write_text("\n".join([*lines[:4], lines[4][:20]]))
    with pytest.raises(SkerryError) as caught:
        results.load(place)
    assert caught.value.code == "REPORT_003"


def test_runs_are_found_by_id_by_its_beginning_or_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKERRY_ROOT", str(tmp_path))
    with pytest.raises(SkerryError, match="REPORT_001"):
        results.find(None)
    for name in ("20261121T100000Z-aaaa", "20261121T110000Z-bbbb", "20261122T090000Z-cccc"):
        made_up_run.save(results.directory() / name, samples=1)
    (results.directory() / ".20261123T090000Z-dddd.partial").mkdir()
    assert results.find(None).name == "20261122T090000Z-cccc"
    assert results.find("20261121T11").name == "20261121T110000Z-bbbb"
    assert results.find(str(results.directory() / "20261121T100000Z-aaaa")).name == "20261121T100000Z-aaaa"
    with pytest.raises(SkerryError, match="REPORT_002"):
        results.find("20261121")
    with pytest.raises(SkerryError, match="REPORT_001"):
        results.find("nothing")


def test_a_title_says_what_was_run() -> None:
    one = Combination(id="x", host="h", rung="container", engine="native", version="", mode="native", payload="native",
                      workload="hello", wanted=1, planned=1)
    assert analysis.title(one) == "container, native program"


def test_numbers_as_people_read_them() -> None:
    assert [units.seconds(value) for value in (0.0, 21.44e-6, 3.049e-3, 0.9994, 61.26)] == \
        ["0 ms", "21.4 µs", "3.05 ms", "999 ms", "61.3 s"]
    assert units.difference(-0.0012) == "−1.20 ms"
    assert [units.size(value) for value in (12, 12_800, 3_200_000, 2**31)] == \
        ["12 B", "12.5 KiB", "3.05 MiB", "2.00 GiB"]
    assert units.interval(0.0209, 0.0221) == "20.9 to 22.1 ms"
    assert units.interval(0.0009, 0.0011) == "900 µs to 1.10 ms"
    assert units.interval(None, None) == "too few samples"
