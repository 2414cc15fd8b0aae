"""Makes a handler of `wasi:http` out of an ordinary WASI program: what is run for each request, as CGI did (RFC 3875).

The program finds the method and the path with its query as arguments, the request's body as standard input; what it
prints is the answer. It is not changed: around it a component is put that hands it those, written as text and turned
into bytes with what PyPI's wasmtime brings. One instance answers one request.
"""

from __future__ import annotations

import functools
from pathlib import Path

import wasmtime
from wasmtime import component

from skerry.errors import SkerryError

#: The component's text, and the module in it that stands where the program goes.
TEXT = Path(__file__).with_name("handler.wat.in")
PLACE = '(module $Program (memory (export "memory") 1) (func (export "_start")))'

#: Every case of wasi:http/types.error-code in its order: hosts compare types by their whole structure.
_ERRORS = """
DNS-timeout; DNS-error $dns; destination-not-found; destination-unavailable; destination-IP-prohibited;
destination-IP-unroutable; connection-refused; connection-terminated; connection-timeout; connection-read-timeout;
connection-write-timeout; connection-limit-reached; TLS-protocol-error; TLS-certificate-error;
TLS-alert-received $tls; HTTP-request-denied; HTTP-request-length-required; HTTP-request-body-size (option u64);
HTTP-request-method-invalid; HTTP-request-URI-invalid; HTTP-request-URI-too-long;
HTTP-request-header-section-size (option u32); HTTP-request-header-size (option $field);
HTTP-request-trailer-section-size (option u32); HTTP-request-trailer-size $field; HTTP-response-incomplete;
HTTP-response-header-section-size (option u32); HTTP-response-header-size $field; HTTP-response-body-size (option u64);
HTTP-response-trailer-section-size (option u32); HTTP-response-trailer-size $field;
HTTP-response-transfer-coding (option string); HTTP-response-content-coding (option string); HTTP-response-timeout;
HTTP-upgrade-failed; HTTP-protocol-error; loop-detected; configuration-error; internal-error (option string)
"""
_METHODS = ("get", "head", "post", "put", "delete", "connect", "options", "trace", "patch")

#: WASI preview 1: parameters of each function. Those that are answered here go through a table, for the program comes
#: into being before what answers it; the rest says that there is no such thing.
_SIGNATURES = """
args_get ii; args_sizes_get ii; environ_get ii; environ_sizes_get ii; clock_res_get ii; clock_time_get ili;
fd_advise illi; fd_allocate ill; fd_close i; fd_datasync i; fd_fdstat_get ii; fd_fdstat_set_flags ii;
fd_fdstat_set_rights ill; fd_filestat_get ii; fd_filestat_set_size il; fd_filestat_set_times illi; fd_pread iiili;
fd_prestat_get ii; fd_prestat_dir_name iii; fd_pwrite iiili; fd_read iiii; fd_readdir iiili; fd_renumber ii;
fd_seek ilii; fd_sync i; fd_tell ii; fd_write iiii; path_create_directory iii; path_filestat_get iiiii;
path_filestat_set_times iiiilli; path_link iiiiiii; path_open iiiiillii; path_readlink iiiiii;
path_remove_directory iii; path_rename iiiiii; path_symlink iiiii; path_unlink_file iii; poll_oneoff iiii;
proc_exit i; proc_raise i; sched_yield; random_get ii; sock_accept iii; sock_recv iiiiii; sock_send iiiii;
sock_shutdown ii
"""
_ANSWERED = ("args_get", "args_sizes_get", "environ_get", "environ_sizes_get", "clock_time_get", "fd_fdstat_get",
             "fd_read", "fd_write", "poll_oneoff", "proc_exit", "random_get")
#: Errors of preview 1: 8 is EBADF (no such descriptor), 52 ENOSYS.
_NONE = {"fd_prestat_get": 8, "fd_close": 0, "sched_yield": 0, "fd_seek": 70}

#: Name in the core module, instance, function, canonical options.
_FILLS = "(memory (core memory $mem))"
_MAKES = f"{_FILLS} (realloc (core func $realloc))"
_USED = (
    ("environment", "environment", "get-environment", _MAKES),
    ("stderr", "stderr", "get-stderr", ""),
    ("monotonic", "monotonic", "now", ""),
    ("after", "monotonic", "subscribe-duration", ""),
    ("block", "poll", "[method]pollable.block", ""),
    ("wall", "wall", "now", _FILLS),
    ("random", "random", "get-random-u64", ""),
    ("read", "streams", "[method]input-stream.blocking-read", _MAKES),
    ("write", "streams", "[method]output-stream.blocking-write-and-flush", _FILLS),
    ("fields", "http", "[constructor]fields", ""),
    ("append", "http", "[method]fields.append", _FILLS),
    ("method", "http", "[method]incoming-request.method", _MAKES),
    ("path", "http", "[method]incoming-request.path-with-query", _MAKES),
    ("consume", "http", "[method]incoming-request.consume", _FILLS),
    ("stream", "http", "[method]incoming-body.stream", _FILLS),
    ("response", "http", "[constructor]outgoing-response", ""),
    ("status", "http", "[method]outgoing-response.set-status-code", ""),
    ("body", "http", "[method]outgoing-response.body", _FILLS),
    ("set", "http", "[static]response-outparam.set", _FILLS),
    ("out-stream", "http", "[method]outgoing-body.write", _FILLS),
    ("finish", "http", "[static]outgoing-body.finish", _MAKES),
)


def _cases(words: str) -> str:
    found = (one.split(None, 1) for one in " ".join(words.split()).split("; "))
    return " ".join(f'(case "{name[0]}"{" " + name[1] if len(name) > 1 else ""})' for name in found)


def _entry() -> str:
    """What the program is given as WASI, and what puts our answers behind it."""
    types, functions, fills = [], [], []
    for name, *letters in (one.split() for one in " ".join(_SIGNATURES.split()).split(";")):
        words = {"i": "i32", "l": "i64"}
        given = " ".join(f"(param {words[letter]})" for letter in "".join(letters))
        kind = given if name == "proc_exit" else f"{given} (result i32)"
        if name in _ANSWERED:
            at = _ANSWERED.index(name)
            passed = " ".join(f"(local.get {number})" for number in range(len("".join(letters))))
            types.append(f"(type ${name} (func {kind}))")
            functions.append(f'(func (export "{name}") {kind} '
                             f"(call_indirect (type ${name}) {passed} (i32.const {at})))")
            fills.append(f'(import "shim" "{name}" (func ${name} {kind}))')
        else:
            functions.append(f'(func (export "{name}") {kind} (i32.const {_NONE.get(name, 52)}))')
    size = len(_ANSWERED)
    every = " ".join(f"${name}" for name in _ANSWERED)
    return (f'(core module $Entry {" ".join(types)} (table (export "table") {size} funcref) {" ".join(functions)})\n'
            f'(core instance $entry (instantiate $Entry))\n'
            f'(core module $Fill {" ".join(fills)} (import "entry" "table" (table {size} funcref))'
            f' (elem (i32.const 0) func {every}))')  # fmt: skip


def _names() -> str:
    """The program's own name, then the methods: 7 letters and the length each."""
    found = b"handler" + b"".join(one.upper().encode().ljust(7, b"\0") + bytes([len(one)]) for one in _METHODS)
    return "".join(f"\\{byte:02x}" for byte in found)


@functools.cache
def frame() -> bytes:
    """The component around a program, with one that does nothing."""
    lowered = "\n".join(f'  (core func ${name} (canon lower (func ${instance} "{function}") {options}))'
                        for name, instance, function, options in _USED)
    given = " ".join(f'(export "{name}" (func ${name}))' for name, *_ in _USED)
    methods = " ".join(f'(case "{one}")' for one in _METHODS)
    words = {"ERRORS": _cases(_ERRORS), "METHODS": methods, "ENTRY": _entry(), "LOWERED": lowered, "HOST": given,
             "NAMES": _names(), "PLACE": PLACE.replace("(module", "(core module")}
    text = TEXT.read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return bytes(wasmtime.wat2wasm(text))


def _section(module: bytes) -> bytes:
    """A core module as a component holds it (component model, Binary.md): section 1, its size as LEB128, its bytes."""
    size, left = b"", len(module)
    while left > 0x7F:
        size += bytes([left & 0x7F | 0x80])
        left >>= 7
    return b"\x01" + size + bytes([left]) + module


def wrap(program: bytes) -> bytes:
    """A component that exports ``wasi:http/incoming-handler@0.2.0`` and runs a core module for each request.

    Raises:
        SkerryError: WORKLOAD_012 for what is no WASI command (preview 1), or asks for more than that.
    """
    before, found, after = frame().partition(_section(bytes(wasmtime.wat2wasm(PLACE))))
    if not found:
        raise AssertionError(f"{TEXT} has a place for the program")
    made = before + _section(program) + after
    try:
        component.Component(wasmtime.Engine(), made)
    except wasmtime.WasmtimeError as error:
        said = " ".join(str(error).split())[:300]
        raise SkerryError("WORKLOAD_012", f"the program is no command of WASI preview 1 alone: {said}",
                          "build a program with main (wasm32-wasi) that uses nothing but WASI") from error
    return made
