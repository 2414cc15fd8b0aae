"""``python -m skerry``."""

from skerry.cli.main import run

run()
