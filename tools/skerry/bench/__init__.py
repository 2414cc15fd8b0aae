"""Measures the overhead ladder: plan, samples, results on disk."""
