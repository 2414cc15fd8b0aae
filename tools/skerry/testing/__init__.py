"""What `skerry test` runs: stages, their reports, and the record of what ran where."""
