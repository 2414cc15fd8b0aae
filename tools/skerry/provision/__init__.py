"""Runs the playbooks through ansible-runner: live view, log on disk, recap, what failed and what to do."""
