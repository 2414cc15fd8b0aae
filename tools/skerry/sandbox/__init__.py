"""Test hosts on this machine: containers that Ansible cannot tell from real hosts.

The playbooks `sandbox_up.yml` and `sandbox_down.yml` make and remove them; what is no container (engine, images, keys,
links, kernel settings) is done here, through the action plugin `skerry.edge.sandbox`. Only the standard library is
imported, so that stock ``ansible-playbook`` does the same without Skerry's environment.
"""
