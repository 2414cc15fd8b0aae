"""What can be wrong with an inventory: every code with its severity and remedy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """Whether a finding stops a run."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Rule:
    """A kind of finding. ``cause`` says what the code means, ``remedy`` what to do; a finding may say it closer."""

    code: str
    cause: str
    remedy: str
    severity: Severity = Severity.ERROR


@dataclass(frozen=True)
class Finding:
    """One thing found: where (file, line and key, as far as there are any), what, and what to do about it."""

    rule: Rule
    file: str
    line: int | None
    key: str
    cause: str
    remedy: str

    @property
    def order(self) -> tuple[str, int, str, str]:
        """Findings are shown by file and line."""
        return self.file, self.line or 0, self.rule.code, self.key

    def as_dict(self) -> dict[str, str | int | None]:
        """The form that ``--json`` prints."""
        return {
            "code": self.rule.code,
            "severity": self.rule.severity.value,
            "file": self.file,
            "line": self.line,
            "key": self.key,
            "cause": self.cause,
            "remedy": self.remedy,
        }


WARNING = Severity.WARNING

NOT_YAML = Rule(
    "INVENTORY_003",
    "a file is no valid YAML",
    "correct the line that is named; indentation is two spaces",
)
DUPLICATE_KEY = Rule("INVENTORY_004", "a key stands twice in one mapping, and the last one wins", "keep one of them")
STRUCTURE = Rule(
    "INVENTORY_005",
    "the file has not the structure of an inventory",
    "a group has hosts, vars and children, each a mapping; host names are keys and end with a colon",
)
ANSIBLE = Rule(
    "INVENTORY_006",
    "Ansible cannot read the inventory",
    "run ansible-inventory -i PATH --list, which says more",
)
VAULT = Rule(
    "INVENTORY_007",
    "the inventory has encrypted files and no vault password is at hand, so that values were checked one by "
    "one and not together",
    "name the password file in ANSIBLE_VAULT_PASSWORD_FILE",
    WARNING,
)
NO_HOSTS = Rule(
    "INVENTORY_008",
    "the inventory has no hosts",
    "add hosts to skerry_servers and skerry_agents, as inventories/lab does",
)

UNKNOWN_HOST = Rule(
    "INVENTORY_010",
    "a host is named that the inventory does not define",
    "correct the name, or give the host an ansible_host",
)
UNKNOWN_GROUP = Rule(
    "INVENTORY_011",
    "a group is named that has no hosts and is defined nowhere",
    "correct the name, or give the group hosts",
)
HOST_NAME = Rule(
    "INVENTORY_012",
    "a host's name cannot be the name of a Kubernetes node",
    "use lower-case letters, digits, '-' and '.', at most 63 characters between dots",
)
SAME_NAME = Rule("INVENTORY_013", "a host and a group have the same name", "rename one of them")

UNKNOWN_VARIABLE = Rule(
    "INVENTORY_020",
    "no role has a variable of this name",
    "correct or remove it; docs/variables.md leads to all names",
)
WRONG_TYPE = Rule("INVENTORY_021", "a value is not of its variable's type", "write it as the role's README says")
NOT_A_CHOICE = Rule("INVENTORY_022", "a value is none of the choices", "take one of the choices")
MISSING_KEY = Rule("INVENTORY_023", "a required key is missing", "add it")
UNKNOWN_KEY = Rule("INVENTORY_024", "a nested option has a key that its spec does not know", "correct or remove it")
PRIVATE = Rule(
    "INVENTORY_025",
    "a private variable of a role is set",
    "use one of the role's public variables",
    WARNING,
)
LIKELY_TYPO = Rule("INVENTORY_026", "a variable looks like a misspelt one", "correct it if it was meant", WARNING)
OVERRIDDEN = Rule(
    "INVENTORY_027",
    "the project's group_vars/all.yml wins over this value",
    "comment it out in group_vars/all.yml, or set it in another group than all",
    WARNING,
)

ADDRESS_TWICE = Rule(
    "INVENTORY_030",
    "two hosts have the same address and port",
    "give each host its own ansible_host",
)
ADDRESS = Rule(
    "INVENTORY_031",
    "ansible_host is no address and no host name",
    "write an IP address or a name, without scheme or port; the port is ansible_port",
)
PORT = Rule("INVENTORY_032", "ansible_port is no port", "use a number from 1 to 65535")
KEY_FILE = Rule(
    "INVENTORY_033",
    "the private key does not exist on this machine",
    "correct ansible_ssh_private_key_file, or make the key with ssh-keygen -t ed25519",
)
KEY_MODE = Rule("INVENTORY_034", "others may read the private key, so that ssh refuses it", "chmod 600 the file")
NO_BECOME = Rule("INVENTORY_035", "ansible_become is false, but the roles need root", "remove it", WARNING)
HOST_KEYS = Rule(
    "INVENTORY_036",
    "the check of host keys is turned off",
    "remove the option and put the hosts' keys into known_hosts",
)

EVEN_SERVERS = Rule(
    "INVENTORY_040",
    "the number of servers is even",
    "make it odd: with etcd, two servers stand no failure, four no more than three do",
)
TWO_ROLES = Rule(
    "INVENTORY_041",
    "a host is a server and an agent",
    "keep it in skerry_servers; a server runs pods as well",
)
NO_SERVER = Rule("INVENTORY_042", "there are agents but no server", "add a host to skerry_servers")
SERVER_ARMV7 = Rule(
    "INVENTORY_043",
    "a server on 32-bit ARM",
    "make it an agent; servers need 64 bits for etcd, and memory",
    WARNING,
)
TWO_TYPES = Rule(
    "INVENTORY_044",
    "a host is of both types, cloud and edge",
    "keep it in one of skerry_cloud and skerry_edge",
)
ZONE_TWICE = Rule(
    "INVENTORY_045",
    "one zone's name in two regions",
    "name zones after their region, such as eu-edge: labels of zones are compared alone",
    WARNING,
)
NO_PLACE = Rule(
    "INVENTORY_046",
    "a host has no region or zone, while others have",
    "set it, in a group or for the host",
    WARNING,
)
LABEL = Rule(
    "INVENTORY_047",
    "Kubernetes would refuse the label",
    "keys are name or prefix/name, values up to 63 letters, digits, '-', '_', '.'",
)
TAINT = Rule(
    "INVENTORY_048",
    "Kubernetes would refuse the taint",
    "write key=value:Effect with NoSchedule, PreferNoSchedule or NoExecute",
)

PLAIN_SECRET = Rule(
    "INVENTORY_060",
    "a secret stands in plain text",
    "encrypt it: ansible-vault encrypt_string, or look it up; docs/secrets.md shows how",
)
