"""Modules that mean harm: a C program with one attack for each name, and modules that are bombs for a compiler."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import wasm_modules

from skerry import paths

#: What the C program does, by its first argument; the second is the directory that it was given.
ATTACKER_C = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
static char block[1 << 20];
static char path[256];
static void tell(const char *what, int number) { printf("%s %d errno %d\n", what, number, errno); fflush(stdout); }
static void wait_for_ever(void) { for (;;) usleep(50000); }
/* Takes descriptors until none is left, then keeps them. */
static void opens(const char *dir) {
  snprintf(path, sizeof path, "%s/one", dir);
  for (int at = 0;; at++)
    if (open(path, O_RDWR | O_CREAT, 0600) < 0) { tell("opened", at); wait_for_ever(); }
}
/* One file that shall become 100 GB. */
static void writes(const char *dir) {
  snprintf(path, sizeof path, "%s/big", dir);
  int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  for (int at = 0; at < 100 * 1024; at++)
    if (write(file, block, sizeof block) < 0) { tell("written", at); wait_for_ever(); }
}
/* The same in files of 4 MB, which no limit on one file ends. */
static void fills(const char *dir) {
  for (int at = 0; at < 25 * 1024; at++) {
    snprintf(path, sizeof path, "%s/part-%d", dir, at);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    for (int piece = 0; piece < 4; piece++)
      if (file < 0 || write(file, block, sizeof block) < 0) { tell("filled", at); wait_for_ever(); }
    close(file);
  }
}
/* Empty files without end: they take room as well. */
static void litters(const char *dir) {
  for (int at = 0;; at++) {
    snprintf(path, sizeof path, "%s/empty-%d", dir, at);
    int file = open(path, O_WRONLY | O_CREAT, 0600);
    if (file < 0) { tell("littered", at); wait_for_ever(); }
    close(file);
  }
}
static void look(const char *name) {
  struct stat about;
  char text[40] = "";
  int file = open(name, O_RDONLY);
  if (file >= 0) {
    read(file, text, sizeof text - 1);
    text[strcspn(text, "\n")] = 0;
    printf("READ %s: %s\n", name, text);
  }
  file = open(name, O_WRONLY | O_CREAT, 0600);
  if (file >= 0) printf("WROTE %s\n", name);
  if (!stat(name, &about)) printf("SAW %s\n", name);
}
/* Everything of the host that its directory does not hold; `outside` there is a symbolic link that leads away. */
static void escapes(const char *dir) {
  static const char *const ways[] = {"/etc/hostname", "../canary", "/../canary", "./../canary", "../../etc/passwd",
    "../../../../../../../../etc/passwd", "/proc/self/environ", "..", ""};
  for (int at = 0; *ways[at]; at++) {
    look(ways[at]);
    snprintf(path, sizeof path, "%s/%s", dir, ways[at]);
    look(path);
  }
  static const char *const links[] = {"outside/canary", "outside/made", "canary-link", "inner/../../canary"};
  for (int at = 0; at < 4; at++) { snprintf(path, sizeof path, "%s/%s", dir, links[at]); look(path); }
  static const char *const targets[] = {"/etc", "../..", "../canary"};
  for (int at = 0; at < 3; at++) {
    snprintf(path, sizeof path, "%s/own-%d", dir, at);
    unlink(path);
    if (symlink(targets[at], path)) continue;
    look(path);
    snprintf(path, sizeof path, "%s/own-%d/passwd", dir, at);
    look(path);
  }
  static char from[256];
  snprintf(from, sizeof from, "%s/mine", dir);
  close(open(from, O_WRONLY | O_CREAT, 0600));
  snprintf(path, sizeof path, "%s/../moved", dir);
  if (!rename(from, path)) printf("WROTE %s\n", path);
  snprintf(path, sizeof path, "%s/../linked", dir);
  if (!link(from, path)) printf("WROTE %s\n", path);
  snprintf(path, sizeof path, "%s/../folder", dir);
  if (!mkdir(path, 0700)) printf("WROTE %s\n", path);
  puts("looked everywhere");
}
/* Puts a link to the host's files in the place of a directory that the workload is given at its next start. */
static void swaps(const char *dir) {
  snprintf(path, sizeof path, "%s/inner", dir);
  printf("removed %d\n", rmdir(path));
  printf("linked %d\n", symlink("../../../etc", path));
}
/* Behaves for as long as a start is looked at, then takes memory without end. */
static void turns(void) {
  puts("behaves");
  fflush(stdout);
  sleep(3);
  static char *volatile taken;
  for (;;) { taken = malloc(1 << 20); memset(taken, 1, 1 << 20); }
}
int main(int count, char **arguments) {
  const char *what = count > 1 ? arguments[1] : "", *dir = count > 2 ? arguments[2] : "/data";
  if (!strcmp(what, "opens")) opens(dir);
  if (!strcmp(what, "writes")) writes(dir);
  if (!strcmp(what, "fills")) fills(dir);
  if (!strcmp(what, "litters")) litters(dir);
  if (!strcmp(what, "escapes")) escapes(dir);
  if (!strcmp(what, "swaps")) swaps(dir);
  if (!strcmp(what, "turns")) turns();
  return 0;
}
"""

#: wasi-threads: each thread starts another for ever. No runtime is told to link it.
_FORKS = """(module (import "wasi" "thread-spawn" (func $spawn (param i32) (result i32))) (memory (export "memory") 1)
  (func $more (loop $again (drop (call $spawn (i32.const 0))) (br $again)))
  (func (export "wasi_thread_start") (param i32 i32) (call $more))
  (func (export "_start") (call $more)))"""

_HEAD = b"\0asm\x01\0\0\0"
#: Section 1 with one type, [] -> [].
_TYPES = b"\x01\x04\x01\x60\0\0"


def _number(value: int) -> bytes:
    """Unsigned LEB128."""
    found = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        if not value:
            return bytes([*found, low])
        found.append(low | 0x80)


def _section(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + _number(len(content)) + content


def _program(bodies: list[bytes], start: int = 0) -> bytes:
    """A module of functions [] -> [], of which one is _start; bodies with their locals."""
    functions = _section(3, _number(len(bodies)) + bytes(len(bodies)))
    memory = _section(5, b"\x01\0\x01")
    exports = _section(7, b"\x02\x06memory\x02\0\x06_start\0" + _number(start))
    code = _section(10, _number(len(bodies)) + b"".join(_number(len(one)) + one for one in bodies))
    return _HEAD + _TYPES + functions + memory + exports + code


def compiled(source: str, name: str) -> Path:
    """A C program for WASI, built once."""
    out = paths.cache() / "tests" / f"{name}-{hashlib.sha256(source.encode()).hexdigest()[:16]}.wasm"
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        text, part = out.with_suffix(".c"), out.with_suffix(".part")
        text.write_text(source, encoding="utf-8")
        command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-Os", "-s"]
        subprocess.run([*command, "-o", str(part), str(text)], check=True, capture_output=True, timeout=300)
        part.replace(out)
    return out


def attacker() -> Path:
    """The C program."""
    return compiled(ATTACKER_C, "attacker")


def forks() -> bytes:
    """A module that starts threads without end."""
    return wasm_modules.wat(_FORKS)


def many_functions(count: int = 400_000) -> bytes:
    """Hundreds of thousands of functions, each with something to compile."""
    body = b"\x01\x04\x7e" + b"\x20\0\x20\x01\x7c\x21\x02\x20\x02\x20\x03\x7e\x21\x01" * 4 + b"\x0b"
    return _program([body] * count)


def huge_function(size: int = 7_000_000) -> bytes:
    """One function near the largest that engines take (7,654,321 bytes), in which every value depends on the last."""
    step = b"\x20\0\x20\x01\x7c\x22\x02\x20\x03\x7e\x22\0\xa7\x04\x40\x20\x02\x21\x01\x0b"
    return _program([b"\x01\x04\x7e" + step * (size // len(step)) + b"\x0b"])


def deep_nesting(depth: int = 2_000_000) -> bytes:
    """Blocks in blocks, as deep as a function may be large."""
    return _program([b"\0" + b"\x02\x40" * depth + b"\x0b" * depth + b"\x0b"])


def many_names(count: int = 2_000_000) -> bytes:
    """Exports without end: a bomb for whoever reads a module before it is sent."""
    exports = b"".join(b"\x04" + at.to_bytes(4, "big").hex()[-4:].encode() + b"\0\0" for at in range(1 << 16))
    content = _number(count) + exports * (count // (1 << 16) + 1)
    return _HEAD + _TYPES + _section(3, b"\x01\0") + _section(7, content) + _section(10, b"\x01\x02\0\x0b")


#: name -> maker.
BOMBS = {"functions": many_functions, "huge": huge_function, "deep": deep_nesting}
