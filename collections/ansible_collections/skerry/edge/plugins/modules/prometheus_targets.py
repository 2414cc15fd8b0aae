#!/usr/bin/python
"""Ask Prometheus in the cluster whether it scrapes what it should (see DOCUMENTATION)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: prometheus_targets
short_description: Wait until Prometheus in the cluster scrapes at least one target of each job
description:
  - Runs on a server. Asks Prometheus through the API server, so that no port has to be opened.
  - Changes nothing. Fails when a job has no target that answers by the deadline, and says what each target answered.
options:
  namespace:
    description: Namespace of Prometheus.
    type: str
    default: monitoring
  service:
    description: Name of its service, with the port.
    type: str
    default: prometheus-server:80
  jobs:
    description: Values of the label C(job) that at least one target which is up must have.
    type: list
    elements: str
    default: [prometheus]
  hosts:
    description: Values of the label C(host) that some target must have, whether it is up or down.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait.
    type: int
    default: 300
author:
  - The Skerry authors
extends_documentation_fragment:
  - skerry.edge.attributes.no_diff
  - skerry.edge.api
attributes:
  check_mode:
    description: Nothing is asked.
"""

EXAMPLES = r"""
- name: Prove that targets are scraped
  skerry.edge.prometheus_targets:
    jobs: [prometheus, hosts]
"""

RETURN = r"""
up:
  description: Number of targets that answer, by job.
  returned: success
  type: dict
down:
  description: Targets that do not, as job, instance and error.
  returned: success
  type: list
  elements: dict
"""

import json
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import Api, UnavailableError


def summary(answer):
    """(targets up by job, targets not up) of Prometheus's answer to /api/v1/targets."""
    up, down = {}, []
    for target in answer["data"]["activeTargets"]:
        job = target["labels"].get("job", "")
        if target["health"] == "up":
            up[job] = up.get(job, 0) + 1
        else:
            where = target["labels"].get("host") or target["labels"].get("instance", "")
            said = target.get("lastError") or "not scraped yet"
            down.append({"job": job, "instance": where, "error": said})
    return up, down


def known(answer):
    """Hosts that have a target."""
    return {target["labels"].get("host", "") for target in answer["data"]["activeTargets"]}


def ask(api, namespace, service):
    """Prometheus's answer, or a sentence why there is none."""
    path = f"/api/v1/namespaces/{namespace}/services/{service}/proxy/api/v1/targets?state=active"
    try:
        status, text = api.ask("GET", path)
    except UnavailableError as error:
        return None, f"the API server does not answer: {error}"
    if status != 200:
        return None, f"{status} {text.strip()[:300]}"
    try:
        return json.loads(text), ""
    except ValueError:
        return None, f"no JSON: {text[:200]}"


def wait(module, api):
    """The module's result when every job has a target that is up; fails at the deadline."""
    given = module.params
    deadline = time.monotonic() + given["timeout"]
    while True:
        answer, why = ask(api, given["namespace"], given["service"])
        up, down = summary(answer) if answer else ({}, [])
        missing = [job for job in given["jobs"] if not up.get(job)]
        unknown = sorted(set(given["hosts"]) - known(answer)) if answer else []
        if answer and not missing and not unknown:
            return {"changed": False, "up": up, "down": down}
        if time.monotonic() >= deadline:
            break
        time.sleep(1)
    if not answer:
        fail(
            module,
            "MONITOR_003",
            f"Prometheus did not answer within {given['timeout']} s: {why}",
            f"see `kubectl -n {given['namespace']} get pods` and the log of deployment prometheus-server",
        )
    if unknown:
        fail(
            module,
            "MONITOR_005",
            f"Prometheus does not even try to scrape {', '.join(unknown)}",
            f"see `kubectl -n {given['namespace']} logs deploy/prometheus-server`: it could not make a scrape pool",
        )
    told = "; ".join(f"{item['job']} {item['instance']}: {item['error']}" for item in down if item["job"] in missing)
    fail(
        module,
        "MONITOR_004",
        f"no target of {', '.join(missing)} is scraped after {given['timeout']} s{': ' + told if told else ''}"[:900],
        "open the node's ports 9100 and 10250 to the pods (firewall), and see whether the exporters run",
    )
    return {}


def fail(module, code, cause, remedy):
    """End with a coded failure."""
    module.fail_json(msg=f"{code} {cause} | remedy: {remedy}", code=code, cause=cause, remedy=remedy)


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "namespace": {"type": "str", "default": "monitoring"},
            "service": {"type": "str", "default": "prometheus-server:80"},
            "jobs": {"type": "list", "elements": "str", "default": ["prometheus"]},
            "hosts": {"type": "list", "elements": "str", "default": []},
            "port": {"type": "int", "default": 6443},
            "timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=False, up={}, down=[])
    module.exit_json(**wait(module, Api("server", module.params["port"])))


if __name__ == "__main__":
    main()
