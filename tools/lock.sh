#!/bin/sh
# Makes requirements.lock anew from pyproject.toml: every package with its hashes, no addresses.
set -eu
cd "$(dirname "$0")/.."
uv lock --upgrade
{
    echo "# Made by tools/lock.sh from pyproject.toml: pinned versions with hashes, one file for every Python >= 3.11."
    uv export --all-groups --no-emit-project --format requirements-txt --no-header --no-annotate
} > requirements.lock
