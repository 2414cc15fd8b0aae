"""How each WebAssembly runtime of a host is found and proved: by running two tiny modules through it.

Python 3.8, standard library only. Each prober returns a runtime's entry of the fact file.
"""

from __future__ import annotations

import base64
import ctypes
import glob
import json
import os
import re
import shutil
import subprocess

from ansible_collections.skerry.edge.plugins.module_utils.containerd_shim import ShimError, run_container

COMMAND_PATH = "/usr/local/bin:/usr/bin:/usr/local/sbin:/usr/sbin:/opt/bin:/bin"
OUTPUT = "skerry-probe\n"
EXIT_CODE = 7

# Writes OUTPUT to standard output, then proc_exit(EXIT_CODE):
# (module
#   (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
#   (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
#   (memory (export "memory") 1)
#   (data (i32.const 0) "\10\00\00\00\0d\00\00\00")
#   (data (i32.const 16) "skerry-probe\0a")
#   (func (export "_start")
#     (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
#     (call $exit (i32.const 7))))
SPEAKING_MODULE = base64.b64decode(
    "AGFzbQEAAAABEANgBH9/f38Bf2ABfwBgAAACRgIWd2FzaV9zbmFwc2hvdF9wcmV2aWV3MQhmZF93cml0ZQAAFndhc2lfc25hcHNob3RfcHJl"
    "dmlldzEJcHJvY19leGl0AAEDAgECBQMBAAEHEwIGbWVtb3J5AgAGX3N0YXJ0AAIKEwERAEEBQQBBAUEIEAAaQQcQAQsLIAIAQQALCBAAAAAN"
    "AAAAAEEQCw1za2VycnktcHJvYmUKABUEbmFtZQEOAgAFd3JpdGUBBGV4aXQ="
)
# (module (memory (export "memory") 1) (func (export "_start") unreachable))
TRAPPING_MODULE = base64.b64decode("AGFzbQEAAAABBAFgAAADAgEABQMBAAEHEwIGbWVtb3J5AgAGX3N0YXJ0AAAKBQEDAAAL")

# What makes the module a Spin application, for Spin's shim; the others do not look at it.
SPIN_MANIFEST = """spin_manifest_version = 2
[application]
name = "probe"
version = "1.0.0"
[[trigger.command]]
component = "probe"
[component.probe]
source = "probe.wasm"
"""


class ProbeError(Exception):
    """Why a runtime could not be proved, in words for the fact file."""


def run(command, timeout, **options):
    """Run a command: (exit code, standard output, standard error); a timeout or a missing file is a ProbeError."""
    environment = {"PATH": COMMAND_PATH, "LC_ALL": "C", "HOME": "/nonexistent", "NO_COLOR": "1"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=timeout,
            check=False,
            **options,
        )
    except subprocess.TimeoutExpired as error:
        raise ProbeError(f"{os.path.basename(command[0])} gave no answer within {timeout} s") from error
    except OSError as error:
        raise ProbeError(f"{command[0]} cannot be started: {error.strerror or error}") from error
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def find(name):
    """Full path of a command, or None."""
    return shutil.which(name, path=COMMAND_PATH)


def source_of(path):
    """Who brought a file: the distribution's id when its package manager knows the file, else "artifact"."""
    for owner in (["dpkg-query", "-S", path], ["rpm", "-qf", path]):
        if find(owner[0]) and run(owner, 20)[0] == 0:
            return distribution()
    return "artifact"


def distribution():
    """The id of os-release ("debian", "rocky", ...)."""
    try:
        with open("/etc/os-release", encoding="utf-8") as stream:
            for line in stream:
                if line.startswith("ID="):
                    return line[3:].strip().strip("\"'")
    except FileNotFoundError:
        return "unknown"
    return "unknown"


def version_of(command, timeout):
    """First dotted number that ``command --version`` prints, or None."""
    _, out, err = run([command, "--version"], timeout)
    found = re.search(r"\d+\.\d+(?:\.\d+)?(?:[-+][0-9A-Za-z.]+)?", out or err)
    return found.group(0) if found else None


def wasmedge_library():
    """(path, version) of the WasmEdge library that a program on this host would load, or (None, None)."""
    folders = ("/opt/skerry/wasmedge/lib64", "/usr/local/lib", "/usr/lib/*", "/usr/lib64")
    for path in [found for folder in folders for found in sorted(glob.glob(folder + "/libwasmedge.so.0"))]:
        try:
            library = ctypes.CDLL(path)
        except OSError:  # of a foreign architecture: not the one that a program here loads
            continue
        library.WasmEdge_VersionGet.restype = ctypes.c_char_p
        return path, library.WasmEdge_VersionGet().decode()
    return None, None


def last_line(text):
    """The last line that says something, without colours: what a runtime complained of."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "nothing was printed"


def judge(name, speaking, trapping):
    """Turn the answers of the two modules into the entry's truth.

    A runtime is proved when it ran the module to its end and the output arrived whole. Whether it keeps exit codes and
    tells traps is recorded apart: where it does not, that is a finding about the runtime, not a broken installation.
    """
    code, out, err = speaking
    if out != OUTPUT:
        raise ProbeError(f"{name} ended with {code} and printed {out[:60]!r} instead of {OUTPUT!r}: {last_line(err)}")
    if code not in (0, EXIT_CODE):
        raise ProbeError(f"{name} ended with {code} instead of {EXIT_CODE}: {last_line(err)}")
    findings = []
    if code != EXIT_CODE:
        findings.append(f"a module's exit code is lost: proc_exit({EXIT_CODE}) ended with {code}")
    if trapping[0] == 0:
        findings.append("a trap ends with exit code 0")
    return {
        "proved": True,
        "error": None,
        "exit_code_kept": code == EXIT_CODE,
        "trap_told": trapping[0] != 0,
        "findings": findings,
    }


def unproved(entry, reason):
    """The entry of a runtime that is there (or should be) and does not work."""
    return {**entry, "proved": False, "error": reason, "exit_code_kept": None, "trap_told": None, "findings": []}


class Prober:
    """Probes of one host, in one private folder."""

    def __init__(self, folder, timeout):
        self.folder = folder
        self.timeout = timeout
        self.speaking = self._write("speaking.wasm", SPEAKING_MODULE)
        self.trapping = self._write("trapping.wasm", TRAPPING_MODULE)

    def _write(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as stream:
            stream.write(content)
        return path

    # -- commands ------------------------------------------------------------------------------------------------

    def command(self, name):
        """Prove a runtime's command line (wasmedge, wasmtime): its entry, or None where it is not installed."""
        path = find(name)
        library, library_version = wasmedge_library() if name == "wasmedge" else (None, None)
        if path is None:
            return None
        entry = {"version": None, "command": path, "library": library, "source": source_of(path), "modes": []}
        if library:
            entry["library_version"] = library_version
        try:
            entry["version"] = version_of(path, self.timeout)
            plain, *others = self._wasmedge_ways(path) if name == "wasmedge" else self._wasmtime_ways(path)
            verdict = self._try(name, *plain)
        except ProbeError as error:
            return unproved(entry, str(error))
        entry["modes"] = [plain[0], *(way[0] for way in others if self._has_mode(name, way))]
        if name == "wasmtime":
            entry["serves"] = self._serves(path)
        return {**entry, **verdict}

    def _serves(self, path):
        """Whether this build has the server for wasi:http; one without takes the word for a module's file."""
        try:
            return "wasi-http" in run([path, "serve", "--help"], self.timeout)[1]
        except ProbeError:
            return False

    def _try(self, name, mode, prepare, speak, trap):
        self._prepare(prepare)
        return judge(f"{name} ({mode})", run(speak, self.timeout), run(trap, self.timeout))

    def _has_mode(self, name, way):
        """Whether a further mode works; a build may lack it (ahead-of-time code needs LLVM in WasmEdge)."""
        try:
            return self._try(name, *way)["proved"]
        except ProbeError:
            return False

    def _prepare(self, commands):
        for command in commands:
            code, _, err = run(command, self.timeout)
            if code != 0:
                raise ProbeError(last_line(err))

    def _wasmedge_ways(self, path):
        """(mode, commands before, speaking, trapping); the first is the plain one, which must work."""
        speaking, trapping = self.speaking + ".so", self.trapping + ".so"
        compile_both = [[path, "compile", self.speaking, speaking], [path, "compile", self.trapping, trapping]]
        return [
            ("interpreter", [], [path, self.speaking], [path, self.trapping]),
            ("aot", compile_both, [path, speaking], [path, trapping]),
            ("jit", [], [path, "--enable-jit", self.speaking], [path, "--enable-jit", self.trapping]),
        ]

    def _wasmtime_ways(self, path):
        speaking, trapping = self.speaking + ".cwasm", self.trapping + ".cwasm"
        compile_both = [
            [path, "compile", "-o", speaking, self.speaking],
            [path, "compile", "-o", trapping, self.trapping],
        ]
        precompiled = [path, "run", "--allow-precompiled"]
        return [
            ("jit", [], [path, "run", self.speaking], [path, "run", self.trapping]),
            ("aot", compile_both, [*precompiled, speaking], [*precompiled, trapping]),
        ]

    # -- crun ----------------------------------------------------------------------------------------------------

    def bundle(self, name, module):
        """An OCI bundle whose container is one wasm module; returns its folder."""
        bundle = os.path.join(self.folder, name)
        for folder in ("rootfs", "rootfs/dev", "rootfs/proc", "rootfs/sys"):
            os.makedirs(os.path.join(bundle, folder), mode=0o755)
        shutil.copyfile(module, os.path.join(bundle, "rootfs", "probe.wasm"))
        devices = {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", "size=64k"]}
        config = {
            "ociVersion": "1.0.2",
            "process": {
                "terminal": False,
                "user": {"uid": 0, "gid": 0},
                "args": ["/probe.wasm"],
                "env": ["PATH=/"],
                "cwd": "/",
                "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted")},
                "noNewPrivileges": True,
            },
            "root": {"path": "rootfs", "readonly": True},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}, devices],
            "annotations": {"module.wasm.image/variant": "compat"},
            "linux": {
                "cgroupsPath": f"/skerry-probe-{os.getpid()}",
                "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
            },
        }
        with open(os.path.join(bundle, "config.json"), "w", encoding="utf-8") as stream:
            json.dump(config, stream)
        return bundle

    def crun(self):
        """Prove crun's wasm handler: its entry, or None where there is no crun."""
        path = find("crun") or find("crun-wasm")
        if path is None:
            return None
        entry = {"version": None, "command": path, "engine": None, "engine_version": None, "source": source_of(path)}
        try:
            entry["version"] = version_of(path, self.timeout)
            entry["engine"] = self._crun_engine(path)
            if entry["engine"] == "wasmedge":
                entry["engine_version"] = wasmedge_library()[1]
            answers = [self._crun_run(path, "speak", self.speaking), self._crun_run(path, "trap", self.trapping)]
            return {**entry, **judge("crun", *answers)}
        except ProbeError as error:
            return unproved(entry, str(error))

    def _crun_engine(self, path):
        _, out, err = run([path, "--version"], self.timeout)
        features = re.findall(r"\+WASM:(\w+)", out + err)
        if not features:
            raise ProbeError("this build of crun has no wasm handler")
        return features[0]

    def _crun_run(self, path, name, module):
        container, state = f"skerry-probe-{os.getpid()}-{name}", os.path.join(self.folder, "state")
        try:
            command = [path, "--root", state, "run", "--bundle", self.bundle(name, module), container]
            return run(command, self.timeout)
        finally:
            run([path, "--root", state, "delete", "--force", container], self.timeout)

    # -- containerd shims ----------------------------------------------------------------------------------------

    def shim(self, name):
        """A containerd shim's entry, or None where it is not installed."""
        path = find(f"containerd-shim-{name}-{'v2' if name == 'spin' else 'v1'}")
        if path is None:
            return None
        entry = {"version": None, "command": path, "engine": name, "source": source_of(path)}
        try:
            entry["version"] = self._shim_version(path)
            speaking = self.shim_run(path, f"{name}-speak", self.speaking)
            return {**entry, **judge(f"shim {name}", speaking, self.shim_run(path, f"{name}-trap", self.trapping))}
        except ProbeError as error:
            return unproved(entry, str(error))

    def _shim_version(self, path):
        _, out, err = run([path, "-v"], self.timeout)
        found = re.search(r"[Vv]ersion:?\s+v?(\d[\w.+-]*)", out + err)
        return found.group(1) if found else None

    def shim_run(self, path, name, module, options=b""):
        """Run a module as a container of a shim, without containerd: (exit code, output, errors)."""
        bundle = self.bundle(name, module)
        with open(os.path.join(bundle, "rootfs", "spin.toml"), "w", encoding="utf-8") as stream:
            stream.write(SPIN_MANIFEST)
        try:
            return run_container(path, bundle, f"skerry-probe-{os.getpid()}-{name}", self.timeout, options)
        except ShimError as error:
            raise ProbeError(str(error)) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProbeError(f"{os.path.basename(path)} gave no answer: {error}") from error
