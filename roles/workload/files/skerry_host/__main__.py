"""``skerry-host``: serves the controller over standard input and output, and is what the units call."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from .faults import HostError

# What stays in memory beside a workload loads no more than it needs: each word imports its own part.


def _revision(name: str, revision: str, slot: str = "") -> dict[str, Any]:
    from . import records

    number = records.find(name, revision)
    desired = records.read(name, number) if number is not None else None
    if desired is None:
        raise HostError("HOST_025", f"{name} has no revision {revision} here", "deploy it again")
    return {**desired, "slot": slot} if slot else desired


def main(words: list[str]) -> int:
    """The command line."""
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    try:
        if words[:1] == ["serve"]:
            from .server import Server

            Server(sys.stdin.buffer, sys.stdout.buffer).serve()
        elif words[:1] == ["verify"]:
            from . import processes

            processes.verify(_revision(*words[1:]))
        elif words[:1] == ["ended"]:
            from . import ended, rungs

            desired = _revision(*words[1:])
            try:
                ended.note(desired)
            finally:
                rungs.of(desired).take_down(desired)
        elif words[:1] == ["container"]:
            from . import containers

            containers.run(_revision(*words[1:]))
        elif words[:1] == ["beside"]:
            from . import supervise

            supervise.main(int(words[1]))
        elif words[:1] == ["point"]:
            from . import handover

            handover.point(_revision(*words[1:]))
        elif words[:1] == ["relay"]:
            from . import relay

            relay.main(words[1:])
        elif words[:1] == ["clear"]:
            from . import apply

            apply.clear()
        elif words[:1] == ["exec"]:
            from . import counting

            counting.run(words[2:], json.loads(words[1]))
        else:
            sys.stderr.write("the controller and units call it: serve, verify, ended, exec, container, beside, point, "
                             "relay, clear\n")
            return 2
    except HostError as error:
        sys.stderr.write(f"{error.code} {error.cause}\n  remedy: {error.remedy}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
