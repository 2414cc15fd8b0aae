"""A real Kubernetes for tests: API server, controllers, scheduler and etcd, with nodes that kwok simulates.

`build` makes the programs from Go modules, once for each state of ``tests/kube/go``; `cluster` starts them.
"""
