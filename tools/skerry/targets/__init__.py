"""Hosts of an inventory as targets, and sessions with the probe on them. `api` holds every type that others use."""
