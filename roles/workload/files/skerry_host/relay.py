"""The relay of a service's ports: takes connections from sockets that systemd holds, and passes them to the instance in
force. When another comes into force, connections that are under way stay where they are until they end; those of HTTP
that are open between two requests go on with the new one.

One process with one thread and no rights: the listening sockets are handed to it, and it reaches instances in the
network namespace that it shares with them.
"""

from __future__ import annotations

import errno
import json
import os
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from .messages import Exchange

#: Bytes that are kept of one direction of a connection before its sender has to wait.
_BUFFER = 1 << 14
#: Seconds for which a connection waits for an instance that does not take it yet, and between two attempts.
_PATIENCE, _AGAIN = 30.0, 0.05
#: Seconds that a client is given to close, once the instance has.
_LINGER = 60.0
#: Seconds between two requests after which a connection makes room for another one, where there are too many.
_IDLE = 1.0
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
Address = tuple[str, int]


class Session:
    """One connection of a client, and its other end while it has one."""

    def __init__(self, relay: Relay, client: socket.socket, port: int, protocol: str) -> None:
        self.relay, self.client, self.port = relay, client, port
        self.upstream: socket.socket | None = None
        self.slot = ""
        self.out, self.back = bytearray(), bytearray()
        self.connecting = self.client_ended = self.upstream_ended = self.told_upstream = self.told_client = False
        self.messages = Exchange() if protocol == "http" else None
        self.since = self.due = 0.0
        self.last = time.monotonic()
        client.setblocking(False)

    # -- the other end ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect to the instance in force, once there is one."""
        self.since = self.since or time.monotonic()
        if not self.relay.slot:
            self.again()
            return
        self.slot, self.due, self.connecting = self.relay.slot, 0.0, True
        self.upstream_ended = self.told_upstream = False
        address = self.relay.targets[self.port]
        self.upstream = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self.upstream.setblocking(False)
        self.upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        said = self.upstream.connect_ex(address)
        if said not in (0, errno.EINPROGRESS):
            self.again()
        else:
            self.watch()

    def again(self) -> None:
        """No instance took it: wait a moment, or give up."""
        self.leave()
        if time.monotonic() - self.since > _PATIENCE:
            self.end(abort=True)
        else:
            self.due = time.monotonic() + _AGAIN
            self.relay.waiting.add(self)
            self.watch()

    def leave(self) -> None:
        """Let go of the other end."""
        if self.upstream is not None:
            self.relay.forget(self.upstream)
            self.upstream.close()
        self.upstream, self.slot, self.connecting, self.upstream_ended = None, "", False, False

    def end(self, abort: bool = False) -> None:
        """Close both ends; ``abort``: so that nobody takes what came for the whole."""
        self.relay.sessions.discard(self)
        self.relay.waiting.discard(self)
        for one in (self.client, self.upstream):
            if one is not None:
                self.relay.forget(one)
                if abort:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.close()

    @property
    def idle(self) -> bool:
        """Whether it is of HTTP and between two requests."""
        return self.messages is not None and self.messages.between and not self.out and not self.back

    # -- events ----------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Ask for what can be dealt with."""
        reads = not self.client_ended and len(self.out) < _BUFFER
        self.relay.watch(self.client, self.on_client, reads * _READ | bool(self.back) * _WRITE)
        if self.upstream is not None:
            events = _WRITE if self.connecting else (
                (not self.upstream_ended and len(self.back) < _BUFFER) * _READ | bool(self.out) * _WRITE)
            self.relay.watch(self.upstream, self.on_upstream, events)

    def on_client(self, events: int) -> None:
        """The client can be read from or written to."""
        if events & _READ:
            data = self.client.recv(_BUFFER)
            self.last = time.monotonic()
            self.client_ended = not data
            if data:
                self.out += data
                if self.messages:
                    self.messages.request(data)
                if self.upstream is None and not self.due:
                    self.since = 0.0
                    self.open()
        self.settle()

    def on_upstream(self, events: int) -> None:
        """The instance can be read from or written to."""
        if self.upstream is None:
            return
        if self.connecting:
            if self.upstream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.again()
                return
            self.connecting, self.since = False, 0.0
        elif events & _READ:
            try:
                data = self.upstream.recv(_BUFFER)
            except ConnectionResetError:
                if not self.idle:
                    raise
                data = b""  # it ended between two requests
            self.last = time.monotonic()
            self.upstream_ended = not data
            self.back += data
            if self.messages and data:
                self.messages.answer(data)
        self.settle()

    def settle(self) -> None:
        """Send what can be sent, then see whether one end is to be told or changed."""
        if self.out and self.upstream is not None and not self.connecting:
            self.send(self.upstream, self.out)
        if self.back:
            self.send(self.client, self.back)
        if self.idle and self.relay.closing:
            self.end()
            return
        if self.idle and self.upstream is not None and (self.upstream_ended or self.slot != self.relay.slot):
            self.leave()
        if self.client_ended and not self.out:
            if self.upstream is None or self.upstream_ended:
                if not self.back:
                    self.end()
                    return
            elif not self.told_upstream and not self.connecting:
                self.told_upstream = True
                self.upstream.shutdown(socket.SHUT_WR)
        if self.upstream_ended and not self.back and not self.told_client:
            self.told_client, self.since = True, time.monotonic()
            self.client.shutdown(socket.SHUT_WR)
        self.watch()

    @staticmethod
    def send(to: socket.socket, data: bytearray) -> None:
        """As much of it as goes."""
        try:
            del data[: to.send(data)]
        except BlockingIOError:
            return


class Relay:
    """All connections of one service.

    Attributes:
        slot: which instance is in force; "" for none yet, until which nothing is taken.
        targets: where it listens, in the order of the ports.
        most: connections at a time; more wait in the sockets' queues.
    """

    def __init__(self, listeners: list[socket.socket], protocols: list[str], control: socket.socket) -> None:
        self.listeners, self.protocols, self.control = listeners, protocols, control
        self.slot = ""
        self.targets: list[Address] = []
        self.most = 0
        self.paused = 0.0
        self.sessions: set[Session] = set()
        self.waiting: set[Session] = set()
        self.selector = selectors.DefaultSelector()
        self.taking = self.closing = False
        control.setblocking(False)
        self.watch(control, self.on_control, _READ)

    def watch(self, which: socket.socket, call: Callable[[int], None], events: int) -> None:
        """Have ``call`` called when something of ``events`` is possible; for 0 no longer."""
        try:
            known = self.selector.get_key(which).events
        except KeyError:
            known = 0
        if events and not known:
            self.selector.register(which, events, call)
        elif events and events != known:
            self.selector.modify(which, events, call)
        elif known and not events:
            self.selector.unregister(which)

    def forget(self, which: socket.socket) -> None:
        """No longer ask about a socket."""
        self.watch(which, lambda _: None, 0)

    def take(self) -> None:
        """Listen, or leave connections in the queues while there is no instance or there are too many."""
        taking = bool(self.slot) and time.monotonic() >= self.paused
        if taking != self.taking:
            self.taking = taking
            for at, listener in enumerate(self.listeners):
                listener.setblocking(False)
                self.watch(listener, lambda _, at=at: self.on_listener(at), taking * _READ)  # type: ignore[misc]

    def room(self) -> bool:
        """Whether one more can be taken; where there are too many, the one that has been idle for longest goes."""
        if len(self.sessions) < self.most:
            return True
        since = time.monotonic() - _IDLE
        idle = [one for one in self.sessions if one.idle and one.last < since]
        if idle:
            min(idle, key=lambda one: one.last).end()
        return bool(idle)

    def on_listener(self, at: int) -> None:
        """A connection has come."""
        if not self.room():
            self.paused = time.monotonic() + _AGAIN
            return
        try:
            client, _ = self.listeners[at].accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        session = Session(self, client, at, self.protocols[at])
        self.sessions.add(session)
        self.guarded(session, session.open)

    # -- control ---------------------------------------------------------------------------------------------------

    def on_control(self, _events: int) -> None:
        """One question and its answer, each a line of JSON, from root alone."""
        caller, _ = self.control.accept()
        with caller:
            caller.settimeout(2)
            try:
                message = json.loads(caller.makefile("rb").readline())
                caller.sendall(json.dumps(getattr(self, "do_" + message["op"])(message)).encode() + b"\n")
            except (OSError, ValueError, KeyError, AttributeError) as error:
                sys.stderr.write(f"control: {error}\n")

    def do_status(self, _message: dict[str, Any]) -> dict[str, Any]:
        """Connections by the instance that has to do with them; "" for those that none has to do with now."""
        counts: dict[str, int] = {}
        for session in self.sessions:
            slot = "" if session.upstream_ended else session.slot
            counts[slot] = counts.get(slot, 0) + 1
        return {"slot": self.slot, "connections": counts}

    def do_switch(self, message: dict[str, Any]) -> dict[str, Any]:
        """Another instance comes into force."""
        self.slot = message["slot"]
        self.targets = [(host, port) for host, port in message["to"]]
        self.most = message["most"]
        for session in list(self.sessions):
            self.guarded(session, session.settle)
        return self.do_status(message)

    def do_close(self, message: dict[str, Any]) -> dict[str, Any]:
        """Take no more connections; those of HTTP end before their next request."""
        for listener in self.listeners:
            self.forget(listener)
            listener.close()
        self.listeners, self.protocols, self.closing = [], [], True
        for session in list(self.sessions):
            self.guarded(session, session.settle)
        return self.do_status(message)

    # -- the loop --------------------------------------------------------------------------------------------------

    @staticmethod
    def guarded(session: Session, call: Callable[[], None]) -> None:
        """A connection that breaks ends, and no other."""
        try:
            call()
        except BlockingIOError:
            return
        except OSError:
            session.end(abort=True)

    def turn(self, seconds: float) -> None:
        """Wait for events, at most so long, and deal with them."""
        self.take()
        for key, events in self.selector.select(seconds):
            session = getattr(key.data, "__self__", None)
            if isinstance(session, Session):
                if session in self.sessions and key.fileobj in (session.client, session.upstream):
                    self.guarded(session, lambda key=key, events=events: key.data(events))  # type: ignore[misc]
            else:
                key.data(events)

    def attend(self) -> None:
        """Try again what waits for an instance; end what its client leaves open."""
        now = time.monotonic()
        for session in [one for one in self.waiting if one.due <= now]:
            self.waiting.discard(session)
            self.guarded(session, session.open)
        for session in [one for one in self.sessions if one.told_client and now - one.since > _LINGER]:
            session.end()

    def run(self) -> NoReturn:
        """For ever."""
        while True:
            self.turn(_AGAIN if self.waiting or not self.taking else 5.0)
            self.attend()


def main(ports: list[str]) -> NoReturn:
    """Be the relay. ``ports``: PORT=PROTOCOL, as the sockets are named that systemd hands over (sd_listen_fds(3))."""
    names = os.environ["LISTEN_FDNAMES"].split(":")
    sockets = {name: socket.socket(fileno=3 + at) for at, name in enumerate(names)}
    wanted = [one.split("=") for one in ports]
    relay = Relay([sockets[port] for port, _ in wanted], [protocol for _, protocol in wanted], sockets["control"])
    with open(os.path.join(os.environ["CREDENTIALS_DIRECTORY"], "target"), encoding="utf-8") as file:
        target = json.load(file)
    if target["slot"]:
        relay.do_switch(target)
    relay.run()
