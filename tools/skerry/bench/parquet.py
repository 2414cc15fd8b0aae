"""Samples as Parquet (apart from the models, since the library takes its time to load)."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from skerry.bench.results import SampleRow


def write(place: Path, rows: list[SampleRow]) -> None:
    """Write samples.parquet: one column a field, ``phases`` as a map from name to seconds."""
    text, whole, real = pa.string(), pa.int64(), pa.float64()
    types = {
        "index": whole, "started_ns": whole, "cold_seconds": real, "run_seconds": real, "pss_bytes": whole,
        "cgroup_peak_bytes": whole, "exit_code": whole, "stdout_bytes": whole, "phases": pa.map_(text, real),
    }
    schema = pa.schema([(name, types.get(name, text)) for name in SampleRow.model_fields])
    columns = [[getattr(row, name) for row in rows] for name in SampleRow.model_fields]
    at = schema.get_field_index("phases")
    columns[at] = [list(row.phases.items()) for row in rows]
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)]
    beside = place / ".samples.parquet.new"
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), beside, compression="zstd")
    beside.replace(place / "samples.parquet")
