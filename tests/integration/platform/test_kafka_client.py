"""The role redpanda's own Kafka client against a broker of Kafka's protocol (kfake): topics, messages, logins."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.skerry.edge.plugins.module_utils.broker_topics import steps, take, wanted
from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError
from ansible_collections.skerry.edge.plugins.module_utils.kafka_client import Client, KafkaError, Scram
from ansible_collections.skerry.edge.plugins.module_utils.kafka_wire import crc32c, record_batch, record_values
from kafka_broker import broker


@pytest.fixture
def client() -> Iterator[Client]:
    """One broker without TLS and SASL."""
    with broker() as addresses:
        client = Client(addresses)
        yield client
        client.close()


def bring(client: Client, specs: list[dict[str, Any]], absent: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Bring topics into their state, as the module does; the steps that were taken."""
    present = client.metadata()
    topics = wanted(specs, len(client.brokers))
    todo = steps(topics, absent, present, client.settings([name for name in topics if name in present]))
    for step in todo:
        take(client, step)
    return [(verb, name) for verb, name, _values in todo]


def test_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C


def test_a_damaged_batch_is_noticed() -> None:
    batch = record_batch(b"hello")
    assert record_values(batch) == [(0, b"hello")]
    assert record_values(batch + batch[:20]) == [(0, b"hello")]
    with pytest.raises(ValueError, match="damaged"):
        record_values(batch[:-3] + b"xyz")


def test_topics_come_into_their_state_and_stay_there(client: Client) -> None:
    specs = [
        {"name": "sensors", "partitions": 3, "retention_ms": 3600000, "config": {"cleanup.policy": "delete"}},
        {"name": "state", "cleanup_policy": "compact", "retention_bytes": 1048576},
    ]
    assert bring(client, specs) == [("create", "sensors"), ("create", "state")]
    assert bring(client, specs) == []
    present = client.metadata()
    assert {name: len(topic["partitions"]) for name, topic in present.items()} == {"sensors": 3, "state": 1}
    settings = client.settings(["sensors", "state"])
    assert settings["sensors"]["retention.ms"] == "3600000"
    assert settings["state"]["cleanup.policy"] == "compact"
    assert settings["state"]["retention.bytes"] == "1048576"


def test_a_changed_retention_and_more_partitions(client: Client) -> None:
    bring(client, [{"name": "sensors", "retention_ms": 1000, "config": {"max.message.bytes": 2000}}])
    more = [{"name": "sensors", "partitions": 4, "retention_ms": 2000}]
    assert bring(client, more) == [("partitions", "sensors"), ("settings", "sensors")]
    assert bring(client, more) == []
    settings = client.settings(["sensors"])["sensors"]
    assert (settings["retention.ms"], settings["max.message.bytes"]) == ("2000", "2000")


def test_a_topic_is_deleted_only_when_it_is_named(client: Client) -> None:
    bring(client, [{"name": "old"}, {"name": "kept"}])
    assert bring(client, [{"name": "kept"}], absent=("old", "never-there")) == [("delete", "old")]
    assert set(client.metadata()) == {"kept"}


def test_fewer_partitions_are_refused(client: Client) -> None:
    bring(client, [{"name": "sensors", "partitions": 2}])
    with pytest.raises(K3sError, match=r"BROKER_011 topic sensors has 2 partitions of 1 replicas, wanted are 1 of 1"):
        bring(client, [{"name": "sensors", "partitions": 1}])


def test_what_the_broker_refuses_is_told(client: Client) -> None:
    with pytest.raises(KafkaError, match=r"topic sensors is not created: .*replication"):
        bring(client, [{"name": "sensors", "replication": 5}])


@pytest.mark.parametrize(
    ("spec", "what"),
    [({"partitions": 1}, "no name"), ({"name": "a", "partition": 1}, "unknown keys partition")],
)
def test_a_wrong_description_is_refused(spec: dict[str, Any], what: str) -> None:
    with pytest.raises(K3sError, match=rf"BROKER_010 .*{what}"):
        wanted([spec], 1)


def test_a_message_goes_to_and_fro(client: Client) -> None:
    bring(client, [{"name": "probe"}])
    leader = client.metadata(["probe"])["probe"]["partitions"][0]
    offsets = [client.produce("probe", leader, text) for text in (b"one", b"two")]
    assert offsets == [0, 1]
    assert client.fetch("probe", leader, 1) == b"two"
    with pytest.raises(KafkaError, match=r"offset 7 of probe cannot be read back|error 1"):
        client.fetch("probe", leader, 7, timeout=1)


def test_three_brokers_replicate() -> None:
    with broker("-brokers", "3") as addresses:
        client = Client(addresses[:1])
        client.metadata()
        assert wanted([{"name": "a"}], len(client.brokers))["a"]["replication"] == 3
        assert bring(client, [{"name": "a", "partitions": 3}]) == [("create", "a")]
        present = client.metadata()["a"]
        assert present["replication"] == 3
        for number, leader in present["partitions"].items():
            if number == 0:
                assert client.fetch("a", leader, client.produce("a", leader, b"x")) == b"x"


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_login(mechanism: str) -> None:
    flags = ("-user", "kubernetes-controller", "-password", "s3cret=,", "-mechanism", mechanism)
    with broker(*flags) as addresses:
        client = Client(addresses, sasl=(mechanism, "kubernetes-controller", "s3cret=,"))
        assert bring(client, [{"name": "a"}]) == [("create", "a")]
        with pytest.raises(KafkaError, match="login refused"):
            Client(addresses, sasl=(mechanism, "kubernetes-controller", "wrong")).metadata()
        with pytest.raises(KafkaError, match=r"closed the connection|broke"):
            Client(addresses).metadata()


def test_scram_as_the_standard_shows_it() -> None:
    """The example of RFC 7677, section 3."""
    scram = Scram("SCRAM-SHA-256", "user", "pencil")
    scram.nonce = "rOprNGfwEbeRWgbNEkqO"
    server = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    assert scram.final(server).endswith(",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    scram.verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    with pytest.raises(KafkaError, match="does not know the password"):
        scram.verify("v=somebody else")


def test_tls_is_checked(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=broker",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    with broker("-certificate", str(certificate), "-key", str(key)) as addresses:
        trusting = Client(addresses, tls=ssl.create_default_context(cafile=str(certificate)))
        assert bring(trusting, [{"name": "a"}]) == [("create", "a")]
        with pytest.raises(KafkaError, match="CERTIFICATE_VERIFY_FAILED"):
            Client(addresses, tls=ssl.create_default_context()).metadata()
        with pytest.raises(KafkaError, match=r"closed the connection|broke"):
            Client(addresses).metadata()


def test_a_broker_that_is_not_there_is_named() -> None:
    with pytest.raises(KafkaError, match=r"no connection to redpanda-0\.example \(127\.0\.0\.1:9\)"):
        Client([("redpanda-0.example", 9)], resolve={"redpanda-0.example": "127.0.0.1"}).metadata()
