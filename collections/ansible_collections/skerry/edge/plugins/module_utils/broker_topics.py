"""Which topics a broker should have, and what is to be done about it. Runs on hosts with Python 3.8."""

from __future__ import annotations

from ansible_collections.skerry.edge.plugins.module_utils.k3s_config import K3sError

#: Our names of the settings that have a variable of their own -> Kafka's.
NAMED = {"retention_ms": "retention.ms", "retention_bytes": "retention.bytes", "cleanup_policy": "cleanup.policy"}
KEYS = {"name", "partitions", "replication", "config", *NAMED}


def text(value):
    """A setting's value as Kafka writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def wanted(specs, brokers):
    """{name: {"partitions", "replication", "settings"}} of the variables; replication follows the number of brokers.

    Raises K3sError BROKER_010 for a topic that is not described rightly.
    """
    topics = {}
    for spec in specs:
        name = str(spec.get("name", ""))
        unknown = sorted(set(spec) - KEYS)
        if not name or unknown or name in topics:
            what = f"unknown keys {', '.join(unknown)}" if unknown else "named twice" if name else "no name"
            raise K3sError(
                "BROKER_010",
                f"topic {name or spec}: {what}",
                f"correct redpanda_topics; keys are {', '.join(sorted(KEYS))}",
            )
        settings = {str(key): text(value) for key, value in (spec.get("config") or {}).items()}
        settings.update({NAMED[key]: text(spec[key]) for key in NAMED if spec.get(key) is not None})
        topics[name] = {
            "partitions": int(spec.get("partitions") or 1),
            "replication": int(spec.get("replication") or (3 if brokers >= 3 else 1)),
            "settings": settings,
        }
    return topics


def steps(topics, absent, present, settings):
    """What brings the topics into their state: [("create" | "partitions" | "settings" | "delete", name, values)].

    ``present`` is Client.metadata(), ``settings`` Client.settings() of the present ones. Raises K3sError BROKER_011 for
    what no broker can do: fewer partitions, another replication.
    """
    found = []
    for name, topic in sorted(topics.items()):
        if name not in present:
            found.append(("create", name, topic))
            continue
        have = len(present[name]["partitions"])
        replication = present[name]["replication"]
        if topic["partitions"] < have or topic["replication"] != replication:
            raise K3sError(
                "BROKER_011",
                f"topic {name} has {have} partitions of {replication} replicas, wanted are {topic['partitions']} of "
                f"{topic['replication']}: partitions are never taken away and replicas never moved here",
                f"set partitions: {have} and replication: {replication}, or delete the topic with its data",
            )
        if topic["partitions"] > have:
            found.append(("partitions", name, {"partitions": topic["partitions"], "before": have}))
        current = settings.get(name, {})
        changed = {key: value for key, value in topic["settings"].items() if current.get(key) != value}
        if changed:
            before = {key: current.get(key) for key in changed}
            found.append(("settings", name, {"settings": changed, "before": before}))
    found += [("delete", name, {}) for name in sorted(absent) if name in present]
    return found


def take(client, step):
    """Do one step. Raises KafkaError."""
    verb, name, values = step
    if verb == "create":
        client.create_topic(name, values["partitions"], values["replication"], values["settings"])
    elif verb == "partitions":
        client.add_partitions(name, values["partitions"])
    elif verb == "settings":
        client.change(name, values["settings"])
    else:
        client.delete_topic(name)
