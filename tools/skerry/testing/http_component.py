"""A small `wasi:http` handler written by hand, turned into a component with what PyPI's wasmtime brings.

``GET /`` answers at once, ``GET /wait`` after a while; both with the same text, by which tests and benchmarks know
which module answered.
"""

from __future__ import annotations

import functools

import wasmtime

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

_IMPORTS = """
  (import "wasi:io/error@0.2.0" (instance $io-error (export "error" (type (sub resource)))))
  (alias export $io-error "error" (type $error))
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $outer-pollable))
    (export "pollable" (type $pollable (eq $outer-pollable)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $error (type $outer-error))
    (export "error" (type $error (eq $outer-error)))
    (export "output-stream" (type $output (sub resource)))
    (type $failed (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failed)))
    (export "[method]output-stream.blocking-write-and-flush" (func
      (param "self" (borrow $output)) (param "contents" (list u8)) (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output))
  (import "wasi:http/types@0.2.0" (instance $http
    (alias outer 1 $output (type $outer-output))
    (export "output-stream" (type $output (eq $outer-output)))
    (type $dns-record (record (field "rcode" (option string)) (field "info-code" (option u16))))
    (export "DNS-error-payload" (type $dns (eq $dns-record)))
    (type $tls-record (record (field "alert-id" (option u8)) (field "alert-message" (option string))))
    (export "TLS-alert-received-payload" (type $tls (eq $tls-record)))
    (type $field-record (record (field "field-name" (option string)) (field "field-size" (option u32))))
    (export "field-size-payload" (type $field (eq $field-record)))
    (type $errors (variant @ERRORS@))
    (export "error-code" (type $error-code (eq $errors)))
    (export "fields" (type $fields (sub resource)))
    (export "incoming-request" (type $request (sub resource)))
    (export "outgoing-response" (type $response (sub resource)))
    (export "outgoing-body" (type $body (sub resource)))
    (export "response-outparam" (type $out (sub resource)))
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[method]incoming-request.path-with-query" (func
      (param "self" (borrow $request)) (result (option string))))
    (export "[constructor]outgoing-response" (func (param "headers" (own $fields)) (result (own $response))))
    (export "[method]outgoing-response.set-status-code" (func
      (param "self" (borrow $response)) (param "status-code" u16) (result (result))))
    (export "[method]outgoing-response.body" (func (param "self" (borrow $response)) (result (result (own $body)))))
    (export "[static]response-outparam.set" (func
      (param "param" (own $out)) (param "response" (result (own $response) (error $error-code)))))
    (export "[method]outgoing-body.write" (func (param "self" (borrow $body)) (result (result (own $output)))))
    (export "[static]outgoing-body.finish" (func
      (param "this" (own $body)) (param "trailers" (option (own $fields))) (result (result (error $error-code)))))))
  (alias export $http "incoming-request" (type $request))
  (alias export $http "response-outparam" (type $out))
"""

#: Memory and an allocator come first: imported functions are given them before the handler itself exists.
_MEMORY = """
  (core module $Memory
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 8192))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (local.get $at)))
  (core instance $memory (instantiate $Memory))
  (alias core export $memory "memory" (core memory $mem))
  (alias core export $memory "realloc" (core func $realloc))
"""

_FILLS = "(memory (core memory $mem))"
_MAKES = f"{_FILLS} (realloc (core func $realloc))"
#: Name in the core module, instance, function, canonical options.
_USED = (
    ("fields", "http", "[constructor]fields", ""),
    ("path", "http", "[method]incoming-request.path-with-query", _MAKES),
    ("response", "http", "[constructor]outgoing-response", ""),
    ("status", "http", "[method]outgoing-response.set-status-code", ""),
    ("body", "http", "[method]outgoing-response.body", _FILLS),
    ("set", "http", "[static]response-outparam.set", _FILLS),
    ("stream", "http", "[method]outgoing-body.write", _FILLS),
    ("finish", "http", "[static]outgoing-body.finish", _MAKES),
    ("write", "streams", "[method]output-stream.blocking-write-and-flush", _FILLS),
    ("after", "clock", "subscribe-duration", ""),
    ("block", "poll", "[method]pollable.block", ""),
)

#: Results with a payload come through memory at 0: the case first, the payload at 4.
_HANDLER = """
  (core module $Handler
    (import "memory" "memory" (memory 1))
    (import "host" "fields" (func $fields (result i32)))
    (import "host" "path" (func $path (param i32 i32)))
    (import "host" "response" (func $response (param i32) (result i32)))
    (import "host" "status" (func $status (param i32 i32) (result i32)))
    (import "host" "body" (func $body (param i32 i32)))
    (import "host" "set" (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (import "host" "stream" (func $stream (param i32 i32)))
    (import "host" "finish" (func $finish (param i32 i32 i32 i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (import "host" "after" (func $after (param i64) (result i32)))
    (import "host" "block" (func $block (param i32)))
    (import "host" "drop-request" (func $drop-request (param i32)))
    (import "host" "drop-output" (func $drop-output (param i32)))
    (import "host" "drop-pollable" (func $drop-pollable (param i32)))
    (data (i32.const 1024) "@TEXT@")
    (func (export "handle") (param $request i32) (param $out i32)
      (local $answer i32) (local $content i32) (local $output i32) (local $timer i32)
      (call $path (local.get $request) (i32.const 0))
      (if (i32.and (i32.eq (i32.load8_u (i32.const 0)) (i32.const 1))
                   (i32.eq (i32.load (i32.const 8)) (i32.const 5)))  ;; as long as /wait
        (then
          (local.set $timer (call $after (i64.const @WAIT@)))
          (call $block (local.get $timer))
          (call $drop-pollable (local.get $timer))))
      (call $drop-request (local.get $request))
      (local.set $answer (call $response (call $fields)))
      (drop (call $status (local.get $answer) (i32.const @STATUS@)))
      (call $body (local.get $answer) (i32.const 0))
      (local.set $content (i32.load (i32.const 4)))
      (call $set (local.get $out) (i32.const 0) (local.get $answer) (i32.const 0) (i64.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0))
      (call $stream (local.get $content) (i32.const 0))
      (local.set $output (i32.load (i32.const 4)))
      (call $write (local.get $output) (i32.const 1024) (i32.const @SIZE@) (i32.const 0))
      (call $drop-output (local.get $output))
      (call $finish (local.get $content) (i32.const 0) (i32.const 0) (i32.const 0))))
"""

_EXPORT = """
  (core instance $handler (instantiate $Handler
    (with "memory" (instance $memory))
    (with "host" (instance @HOST@ (export "drop-request" (func $drop-request))
      (export "drop-output" (func $drop-output)) (export "drop-pollable" (func $drop-pollable))))))
  (func $handle (param "request" (own $request)) (param "response-out" (own $out))
    (canon lift (core func $handler "handle")))
  (instance $exported (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $exported))
"""


def _cases() -> str:
    words = (one.split(None, 1) for one in " ".join(_ERRORS.split()).split("; "))
    return " ".join(f'(case "{name[0]}"{" " + name[1] if len(name) > 1 else ""})' for name in words)


@functools.cache
def component(text: str, status: int = 200, wait: float = 1.0) -> bytes:
    """A component that exports ``wasi:http/incoming-handler@0.2.0``.

    Args:
        text: the body of every answer, plain ASCII of at most 4,000 characters.
        status: of every answer.
        wait: seconds until ``/wait`` is answered.
    """
    lowered = "\n".join(f'  (core func ${name} (canon lower (func ${instance} "{function}") {options}))'
                        for name, instance, function, options in _USED)
    drops = "\n".join(f"  (core func $drop-{name} (canon resource.drop ${name}))"
                      for name in ("request", "output", "pollable"))
    given = " ".join(f'(export "{name}" (func ${name}))' for name, *_ in _USED)
    handler = _HANDLER.replace("@TEXT@", "".join(f"\\{byte:02x}" for byte in text.encode()))
    for name, number in (("SIZE", len(text)), ("STATUS", status), ("WAIT", int(wait * 1e9))):
        handler = handler.replace(f"@{name}@", str(number))
    parts = [_IMPORTS.replace("@ERRORS@", _cases()), _MEMORY, lowered, drops, handler, _EXPORT.replace("@HOST@", given)]
    return bytes(wasmtime.wat2wasm("(component\n" + "\n".join(parts) + ")"))
