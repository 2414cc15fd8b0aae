"""The host's Skerry facts as metrics in Prometheus's text format, for the node exporter's textfile collector.

Runs on the hosts: Python 3.8 or later, standard library only.
"""

from __future__ import annotations

HELP = {
    "skerry_host_info": "Place and type of the host.",
    "skerry_wasm_runtime_info": "A WebAssembly runtime of the host, with its version and where it came from.",
    "skerry_wasm_runtime_proved": "Whether that runtime ran a module on this host (1) or could not (0).",
    "skerry_wasm_handler_info": "A handler of containerd or Docker that runs WebAssembly, with its engine.",
    "skerry_docker_info": "The Docker Engine of the host.",
    "skerry_k3s_info": "The k3s of the host.",
    "skerry_certificate_not_after_timestamp_seconds": "End of a certificate that Skerry made, in seconds since 1970.",
}


def escaped(value):
    """A label's value as the format wants it."""
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def line(name, labels, value=1):
    """One sample; labels without a value are left out."""
    told = ",".join(f'{key}="{escaped(item)}"' for key, item in labels.items() if item not in (None, ""))
    return f"{name}{{{told}}} {value}" if told else f"{name} {value}"


def samples(facts, labels, certificates):
    """[(name, labels, value)] of the fact file's content, the host's labels and {path: end of a certificate}."""
    found = [("skerry_host_info", labels, 1)]
    wasm = facts.get("wasm_runtime") or {}
    for name, runtime in sorted((wasm.get("runtimes") or {}).items()):
        proved = 1 if runtime.get("proved") else 0
        if proved:
            info = {"runtime": name, "version": runtime.get("version"), "source": runtime.get("source")}
            info.update({key: runtime.get(key) for key in ("engine", "engine_version")})
            found.append(("skerry_wasm_runtime_info", info, 1))
        found.append(("skerry_wasm_runtime_proved", {"runtime": name}, proved))
    for name, handler in sorted((wasm.get("handlers") or {}).items()):
        info = {"handler": name, "runtime": handler.get("runtime"), "engine": handler.get("engine")}
        found.append(("skerry_wasm_handler_info", info, 1))
    for name, keys in (("docker", ("version", "wasm_runtime")), ("k3s", ("version", "role"))):
        section = facts.get(name) or {}
        if section.get("version"):
            found.append((f"skerry_{name}_info", {key: section.get(key) for key in keys}, 1))
    for path, end in sorted(certificates.items()):
        found.append(("skerry_certificate_not_after_timestamp_seconds", {"path": path}, end))
    return found


def text(facts, labels, certificates):
    """The whole file."""
    lines, last = [], None
    for name, pairs, value in sorted(samples(facts, labels, certificates), key=lambda item: item[0]):
        if name != last:
            lines += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} gauge"]
            last = name
        lines.append(line(name, pairs, value))
    return "\n".join(lines) + "\n"
