"""What the modules that bring objects into their state do around their work: ask until the API answers, tell the rest.

Runs on hosts with Python 3.8, so it keeps to the standard library and to that version's syntax.
"""

from __future__ import annotations

import os
import time

from ansible_collections.skerry.edge.plugins.module_utils.k3s_api import Api, UnavailableError
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.kube_objects import Objects, without_secrets


def settle(module, work, **told):
    """End the module with what ``work(objects, params, deadline)`` came to; ``told`` goes into every good result.

    While the API does not answer, the work is begun again from its start, until the argument ``timeout`` is over
    (CHART_013). In check mode nothing is waited for. What earlier attempts changed stays in the diff.
    """
    params, start, before = module.params, time.monotonic(), []
    module.params = without_secrets(params)  # what -vvv shows
    deadline = start + (0 if module.check_mode else params["timeout"])
    while True:
        api = Api("server", params["port"])
        objects = Objects(api, module.check_mode)
        if params["state"] == "absent" and not os.path.exists(api.certificate):
            module.exit_json(changed=False, seconds=0.0, msg="there is no k3s server on this host", **told)
        try:
            work(objects, params, deadline)
            diff = before + [item for item in objects.diff if item not in before]
            module.exit_json(changed=bool(diff), diff=diff, seconds=round(time.monotonic() - start, 2), **told)
        except UnavailableError as error:
            before += [item for item in objects.diff if item not in before]
            if module.check_mode:
                module.exit_json(changed=True, msg=f"the API cannot be asked: {error}", seconds=0.0, **told)
            if time.monotonic() >= deadline:
                silent = K3sError(
                    "CHART_013", f"the API does not answer: {error}", "see systemctl status k3s on this server"
                )
                module.fail_json(**silent.as_result())
            time.sleep(1)
        except K3sError as error:
            module.fail_json(**error.as_result())
