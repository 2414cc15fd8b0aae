"""First and later runs of site.yml on bare sandbox hosts: seconds, tasks, seconds per host; the controller's memory.

    .venv/bin/python benchmarks/site_runs.py [--hosts 3 10] [-e KEY=VALUE ...]

Prints one row a run and the ratio of the second run to the first, all of one session on one machine.
"""

from __future__ import annotations

import argparse

from hosts import provision, sandbox, write_inventory

RUNS = ("first", "second", "third")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[3, 10], help="numbers of hosts to try")
    parser.add_argument("-e", "--extra-vars", action="append", default=[], help="KEY=VALUE for site.yml")
    asked = parser.parse_args()
    extra = [word for pair in asked.extra_vars for word in ("-e", pair)]
    print(f"{'hosts':>5} {'run':<7} {'seconds':>8} {'tasks':>6} {'s/host':>7} {'changed':>8} {'controller MB':>14}")
    for number in asked.hosts:
        inventory = write_inventory(f"skerry-bench{number}", f"10.213.{90 + number % 100}.0/24", number - 1)
        with sandbox(inventory):
            seconds = []
            for run in RUNS:
                got = provision(inventory, *extra)
                seconds.append(got.seconds)
                print(
                    f"{number:>5} {run:<7} {got.seconds:>8.1f} {got.told['tasks']:>6} {got.seconds / number:>7.2f}"
                    f" {got.changed:>8} {got.memory_bytes / 1e6:>14.0f}",
                    flush=True,
                )
                if got.told["status"] != "successful":
                    raise SystemExit("\n".join(got.failures))
            slowest = sorted(got.told["role_seconds"].items(), key=lambda item: -item[1])
            print(f"      {'third by role: ' + ', '.join(f'{name} {took:.1f} s' for name, took in slowest)}")
            print(
                f"      second / first = {seconds[1] / seconds[0]:.3f}, third / first = {seconds[2] / seconds[0]:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
