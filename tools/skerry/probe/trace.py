"""Stops a program at its very end, while its memory is still there: proportional set sizes of runs of a millisecond.

ptrace(2): the child is seized before it starts, its threads and children with it; each stops once more when it ends
(PTRACE_EVENT_EXIT) and at signals, which are passed on. Where tracing is forbidden nothing is traced.
"""

from __future__ import annotations

import ctypes
import os
import signal

from .memory import pss

_SEIZE, _CONT, _LISTEN = 0x4206, 7, 0x4208
#: TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC, TRACEEXIT; EXITKILL: no traced process outlives its tracer.
_OPTIONS = 0x2 | 0x4 | 0x8 | 0x10 | 0x40 | 0x100000
_EVENT_EXEC, _EVENT_EXIT, _EVENT_STOP = 4, 6, 128
#: wait for threads and children alike.
WALL = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def seize(pid: int) -> bool:
    """Trace a process that is about to become the program; False where that is not allowed."""
    return bool(_libc.ptrace(_SEIZE, pid, None, _OPTIONS) == 0)


def became(status: int) -> bool:
    """Whether a traced process stopped because it has just become another program (execve)."""
    return status >> 16 == _EVENT_EXEC


def stopped(pid: int, status: int) -> int:
    """A traced thread has stopped: let it go on; its process's proportional set size if it is about to end, else 0."""
    event, number = status >> 16, os.WSTOPSIG(status)
    size = 0
    if event == _EVENT_EXIT:
        size = pss(pid) or 0
    if event == _EVENT_STOP and number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
        _libc.ptrace(_LISTEN, pid, None, None)
    else:
        _libc.ptrace(_CONT, pid, None, 0 if event else number)
    return size
