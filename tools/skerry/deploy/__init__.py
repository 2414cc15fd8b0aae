"""Workloads deployed: from a file that describes them to hosts and clusters that keep them running."""
