"""Skerry's command line: sandbox hosts, provisioning, WebAssembly workloads and their measurement."""

__version__ = "0.1.0"
