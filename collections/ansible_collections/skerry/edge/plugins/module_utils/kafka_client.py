"""A small Kafka client: topics and their settings, one message to and fro, TLS and SCRAM.

The role needs no more, hosts have no Kafka library, and the broker's own rpk prints tables that change from release to
release. Runs on hosts with Python 3.8, standard library only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import struct
import time

from ansible_collections.skerry.edge.plugins.module_utils.kafka_wire import Reader, Writer, record_batch, record_values

CLIENT_ID = "skerry"
#: name -> (key, version)
REQUESTS = {
    "produce": (0, 7),
    "fetch": (1, 4),
    "metadata": (3, 4),
    "handshake": (17, 1),
    "create_topics": (19, 2),
    "delete_topics": (20, 1),
    "describe_configs": (32, 1),
    "authenticate": (36, 0),
    "create_partitions": (37, 0),
    "alter_configs": (44, 0),
}
TOPIC = 2  # resource type of a topic
SET = 0  # operation of incremental changes
#: Codes worth a word of their own; others are shown as numbers.
ERRORS = {
    3: "unknown topic or partition",
    5: "leader not available",
    6: "not the leader",
    7: "timed out",
    9: "replica not available",
    19: "not enough replicas",
    29: "topic authorization failed",
    31: "cluster authorization failed",
    35: "unsupported version",
    36: "topic exists",
    37: "invalid partitions",
    38: "invalid replication factor",
    40: "invalid configuration",
    41: "not the controller",
    42: "invalid request",
    44: "policy violation",
    58: "authentication failed",
}
LATER = {3, 5, 6, 7, 9, 19, 41}  # codes that pass by themselves


class KafkaError(Exception):
    """The broker refused, or does not speak; ``code`` is Kafka's, 0 for trouble on the way."""

    def __init__(self, text, code=0):
        super().__init__(text)
        self.code = code


def check(code, what, message=None):
    """Raise KafkaError for a code other than 0."""
    if code:
        raise KafkaError(f"{what}: {message or ERRORS.get(code, f'error {code}')}", code)


class Connection:
    """One connection; ``tls`` is a context, ``name`` that of the certificate, ``sasl`` (mechanism, user, password)."""

    def __init__(self, address, port, name, tls=None, sasl=None, timeout=10):
        self.number = 0
        try:
            self.socket = socket.create_connection((address, port), timeout=timeout)
            if tls is not None:
                self.socket = tls.wrap_socket(self.socket, server_hostname=name)
        except OSError as error:
            raise KafkaError(f"no connection to {name} ({address}:{port}): {error}") from error
        if sasl is not None:
            self._login(*sasl)

    def call(self, request, body):
        """A Reader of the answer to one request."""
        key, version = REQUESTS[request]
        self.number += 1
        head = Writer().int16(key).int16(version).int32(self.number).string(CLIENT_ID)
        message = bytes(head.data + body.data)
        try:
            self.socket.sendall(struct.pack(">i", len(message)) + message)
            size = struct.unpack(">i", self._receive(4))[0]
            reader = Reader(self._receive(size))
        except OSError as error:
            raise KafkaError(f"the connection broke: {error}") from error
        if reader.int32() != self.number:
            raise KafkaError("an answer to another question")
        return reader

    def _receive(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(min(65536, count - len(data)))
            if not piece:
                raise KafkaError("the broker closed the connection (TLS or SASL wanted, or not wanted)")
            data += piece
        return data

    def _login(self, mechanism, user, password):
        answer = self.call("handshake", Writer().string(mechanism))
        code = answer.int16()
        known = answer.array(Reader.string)
        check(code, f"no login by {mechanism}", "the broker knows " + ", ".join(known) if code else None)
        scram = Scram(mechanism, user, password)
        first = self._authenticate(scram.first())
        scram.verify(self._authenticate(scram.final(first)))

    def _authenticate(self, data):
        try:
            answer = self.call("authenticate", Writer().blob(data.encode()))
        except KafkaError as error:  # some brokers hang up instead of answering
            raise KafkaError(f"login refused: {error}", error.code) from error
        code, message, data = answer.int16(), answer.string(), answer.blob()
        check(code, "login refused", message)
        return (data or b"").decode()

    def close(self):
        """Hang up."""
        self.socket.close()


class Scram:
    """The client's side of SCRAM (RFC 5802) without channel binding."""

    def __init__(self, mechanism, user, password):
        self.hash = mechanism.replace("SCRAM-", "").replace("-", "").lower()  # sha256, sha512
        self.user = user.replace("=", "=3D").replace(",", "=2C")
        self.password = password.encode()
        self.nonce = base64.b64encode(os.urandom(18)).decode()
        self.expected = ""

    def first(self):
        """The client's first message."""
        return f"n,,n={self.user},r={self.nonce}"

    def final(self, answer):
        """The client's last message; raises KafkaError for an answer that is not the server's own."""
        parts = dict(item.split("=", 1) for item in answer.split(",") if "=" in item)
        if not parts.get("r", "").startswith(self.nonce):
            raise KafkaError("login refused: the server's nonce does not begin with ours")
        salted = hashlib.pbkdf2_hmac(self.hash, self.password, base64.b64decode(parts["s"]), int(parts["i"]))
        without_proof = "c=biws,r=" + parts["r"]
        message = ",".join([self.first()[3:], answer, without_proof]).encode()
        client = self._mac(salted, b"Client Key")
        signature = self._mac(hashlib.new(self.hash, client).digest(), message)
        proof = bytes(a ^ b for a, b in zip(client, signature))
        self.expected = base64.b64encode(self._mac(self._mac(salted, b"Server Key"), message)).decode()
        return f"{without_proof},p={base64.b64encode(proof).decode()}"

    def verify(self, answer):
        """Raise KafkaError when the server did not know the password."""
        if answer != "v=" + self.expected:
            raise KafkaError("login refused: the server does not know the password")

    def _mac(self, key, message):
        return hmac.new(key, message, self.hash).digest()


class Client:
    """A cluster, known by some of its brokers.

    ``bootstrap`` is [(host, port)]. ``resolve`` (advertised host -> address) stands in for names that this host cannot
    resolve; ``tls`` and ``sasl`` are as in Connection. Connections are made to what the brokers advertise, as every
    client does it, so that a message that came through proves the advertised addresses as well.
    """

    def __init__(self, bootstrap, tls=None, sasl=None, resolve=None, timeout=10):
        self.bootstrap = bootstrap
        self.options = {"tls": tls, "sasl": sasl, "timeout": timeout}
        self.resolve = resolve or {}
        self.connections = {}
        self.brokers = {}
        self.controller = -1

    def close(self):
        """Hang up everywhere."""
        for connection in self.connections.values():
            connection.close()
        self.connections = {}

    def _to(self, host, port):
        if (host, port) not in self.connections:
            address = self.resolve.get(host, host)
            self.connections[host, port] = Connection(address, port, host.rstrip("."), **self.options)
        return self.connections[host, port]

    def _any(self):
        problems = []
        for host, port in [*self.brokers.values(), *self.bootstrap]:
            try:
                return self._to(host, port)
            except KafkaError as error:
                problems.append(str(error))
        raise KafkaError("; ".join(dict.fromkeys(problems)) or "no broker is known")

    def _leader(self, number):
        if number not in self.brokers:
            raise KafkaError(f"broker {number} is not in the cluster's own list", 5)
        return self._to(*self.brokers[number])

    def metadata(self, topics=None):
        """{topic: {"partitions": {number: leader}, "replication": n}} of those topics (but unknown ones) or of all.

        Also refreshes brokers (id -> (host, port)) and the controller. Raises KafkaError.
        """
        body = Writer().array(topics, Writer.string).boolean(False)
        answer = self._any().call("metadata", body)
        answer.int32()
        brokers = answer.array(lambda r: (r.int32(), r.string(), r.int32(), r.string()))
        self.brokers = {number: (host, port) for number, host, port, _rack in brokers}
        answer.string()
        self.controller = answer.int32()
        found = {}
        for code, name, internal, partitions in answer.array(_metadata_topic):
            if code == 3 or (internal and topics is None):
                continue
            check(code, f"topic {name}")
            found[name] = {
                "partitions": {number: leader for number, leader, _replicas in partitions},
                "replication": max((replicas for _number, _leader, replicas in partitions), default=0),
            }
        return found

    def _control(self, request, body):
        """Ask the controller; brokers other than Kafka's pass such requests on."""
        target = self.brokers.get(self.controller)
        return (self._to(*target) if target else self._any()).call(request, body)

    def create_topic(self, name, partitions, replication, settings, timeout=30):
        """Create one topic. Raises KafkaError."""

        def write(writer, _item):
            writer.string(name).int32(partitions).int16(replication).array([], Writer.string)
            writer.array(sorted(settings.items()), lambda w, item: w.string(item[0]).string(item[1]))

        body = Writer().array([name], write).int32(timeout * 1000).boolean(False)
        answer = self._control("create_topics", body)
        answer.int32()
        for topic, code, message in answer.array(lambda r: (r.string(), r.int16(), r.string())):
            check(code, f"topic {topic} is not created", message)

    def delete_topic(self, name, timeout=30):
        """Delete one topic. Raises KafkaError."""
        answer = self._control("delete_topics", Writer().array([name], Writer.string).int32(timeout * 1000))
        answer.int32()
        for topic, code in answer.array(lambda r: (r.string(), r.int16())):
            check(code, f"topic {topic} is not deleted")

    def add_partitions(self, name, count, timeout=30):
        """Raise the number of a topic's partitions to ``count``. Raises KafkaError."""

        def write(writer, _item):
            writer.string(name).int32(count).array(None, Writer.string)

        body = Writer().array([name], write).int32(timeout * 1000).boolean(False)
        answer = self._control("create_partitions", body)
        answer.int32()
        for topic, code, message in answer.array(lambda r: (r.string(), r.int16(), r.string())):
            check(code, f"topic {topic} gets no more partitions", message)

    def settings(self, names):
        """{topic: {setting: value}} of all settings, defaults included. Raises KafkaError."""
        if not names:
            return {}

        def write(writer, name):
            writer.int8(TOPIC).string(name).array(None, Writer.string)

        answer = self._any().call("describe_configs", Writer().array(names, write).boolean(False))
        answer.int32()
        found = {}
        for code, message, name, entries in answer.array(_described):
            check(code, f"settings of topic {name}", message)
            found[name] = entries
        return found

    def change(self, name, settings):
        """Set some settings of a topic and leave the others. Raises KafkaError."""

        def entry(writer, item):
            writer.string(item[0]).int8(SET).string(item[1])

        def write(writer, _item):
            writer.int8(TOPIC).string(name).array(sorted(settings.items()), entry)

        answer = self._control("alter_configs", Writer().array([name], write).boolean(False))
        answer.int32()
        for code, message, _kind, topic in answer.array(lambda r: (r.int16(), r.string(), r.int8(), r.string())):
            check(code, f"settings of topic {topic}", message)

    def produce(self, topic, leader, value, timeout=10):
        """Write a message (bytes) to partition 0 and wait until all replicas have it; returns its offset."""

        def partition(writer, _item):
            writer.int32(0).blob(record_batch(value))

        def write(writer, _item):
            writer.string(topic).array([0], partition)

        body = Writer().string(None).int16(-1).int32(timeout * 1000).array([topic], write)
        answer = self._leader(leader).call("produce", body)
        for _name, partitions in answer.array(_produced):
            for _number, code, offset in partitions:
                check(code, f"a message to {topic}")
                return offset
        raise KafkaError(f"no answer about topic {topic}")

    def fetch(self, topic, leader, offset, timeout=10):
        """The message (bytes) at an offset of partition 0. Raises KafkaError when it is not there in time."""

        def partition(writer, _item):
            writer.int32(0).int64(offset).int32(1 << 20)

        def write(writer, _item):
            writer.string(topic).array([0], partition)

        deadline = time.monotonic() + timeout
        while True:
            body = Writer().int32(-1).int32(500).int32(1).int32(1 << 20).int8(0).array([topic], write)
            answer = self._leader(leader).call("fetch", body)
            answer.int32()
            for _name, partitions in answer.array(_fetched):
                for _number, code, data in partitions:
                    check(code, f"a message from {topic}")
                    for at, value in record_values(data or b""):
                        if at == offset:
                            return value
            if time.monotonic() >= deadline:
                raise KafkaError(f"the message at offset {offset} of {topic} cannot be read back")


def _metadata_topic(reader):
    def partition(r):
        r.int16()
        number, leader = r.int32(), r.int32()
        replicas = r.array(Reader.int32)
        r.array(Reader.int32)
        return number, leader, len(replicas)

    code, name, internal = reader.int16(), reader.string(), reader.int8()
    return code, name, bool(internal), reader.array(partition)


def _described(reader):
    def entry(r):
        name, value = r.string(), r.string()
        r.take(3)  # read only, source, sensitive
        r.array(lambda synonym: (synonym.string(), synonym.string(), synonym.int8()))
        return name, value

    code, message, _kind, name = reader.int16(), reader.string(), reader.int8(), reader.string()
    return code, message, name, dict(reader.array(entry))


def _produced(reader):
    def partition(r):
        number, code, offset = r.int32(), r.int16(), r.int64()
        r.take(16)  # time of the log's append, first offset of the log
        return number, code, offset

    return reader.string(), reader.array(partition)


def _fetched(reader):
    def partition(r):
        number, code = r.int32(), r.int16()
        r.take(16)  # high watermark, last stable offset
        r.array(lambda aborted: (aborted.int64(), aborted.int64()))
        return number, code, r.blob()

    return reader.string(), reader.array(partition)
