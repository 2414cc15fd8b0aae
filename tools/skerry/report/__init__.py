"""Shows a run of the benchmark: statistics, terminal table, page."""
