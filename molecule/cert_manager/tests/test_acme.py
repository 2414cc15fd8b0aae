"""A certificate from a real ACME server: Pebble and a name server of Debian's packages on the host, proved by DNS01."""

from __future__ import annotations

import base64
import json
import secrets

import pytest
from cryptography import x509

FOLDER = "/var/tmp/skerry-acme"
ZONE = "edge.example.org"
PORTS = {"acme": 14000, "dns": 5354}
# Its YAML is not all of YAML: one key a line. It listens on one address, else answers to updates leave by another one.
KNOT = """\
server:
    listen: {address}@{port}
    rundir: {folder}/run
database:
    storage: {folder}/db
key:
  - id: acme
    algorithm: hmac-sha256
    secret: {key}
acl:
  - id: update
    key: acme
    action: update
zone:
  - domain: {zone}
    file: {folder}/zone
    acl: update"""
UNITS = ("skerry-test-pebble", "skerry-test-knot")


def write(host, name, text):
    host.check_output(f"cat > {FOLDER}/{name} <<'EOF'\n{text}\nEOF")


@pytest.fixture(scope="module")
def acme(host):
    """{address, key, ca} of an ACME server that asks a name server, whose zone takes updates signed with the key."""
    packages = [name for name in ("pebble", "knot", "openssl") if not host.package(name).is_installed]
    install = "DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends " + " ".join(packages)
    if packages and host.run(f"{install} || (apt-get update -qq && {install})").rc:
        pytest.skip("Debian's packages pebble and knot cannot be had")
    host.run("systemctl disable --now knot")
    address = host.check_output("k3s kubectl get node cloud-1 -o jsonpath={.status.addresses[0].address}")
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    host.check_output(f"rm -rf {FOLDER}; mkdir -p -m 700 {FOLDER}/run {FOLDER}/db")
    write(host, "zone", f"@ 60 SOA ns.{ZONE}. ops.{ZONE}. 1 60 60 600 60\n@ 60 NS ns\nns 60 A {address}")
    write(host, "knot.conf", KNOT.format(folder=FOLDER, address=address, port=PORTS["dns"], key=key, zone=ZONE))
    certificate = f"-keyout {FOLDER}/key.pem -out {FOLDER}/cert.pem -subj /CN=acme -addext subjectAltName=IP:{address}"
    host.check_output(f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 {certificate}")
    write(host, "pebble.json", json.dumps({"pebble": {
        "listenAddress": f"0.0.0.0:{PORTS['acme']}", "managementListenAddress": "127.0.0.1:15000",
        "certificate": f"{FOLDER}/cert.pem", "privateKey": f"{FOLDER}/key.pem", "httpPort": 80, "tlsPort": 443,
        "ocspResponderURL": "", "externalAccountBindingRequired": False,
    }}))  # fmt: skip
    host.run(f"systemctl stop {' '.join(UNITS)}")
    run = "systemd-run --collect --unit"
    host.check_output(f"{run} skerry-test-knot knotd -c {FOLDER}/knot.conf")
    host.check_output(f"{run} skerry-test-pebble -E PEBBLE_VA_NOSLEEP=1 pebble -config {FOLDER}/pebble.json "
                      f"-dnsserver {address}:{PORTS['dns']}")  # fmt: skip
    yield {"address": address, "key": key, "ca": host.check_output(f"cat {FOLDER}/cert.pem")}
    host.run(f"systemctl stop {' '.join(UNITS)}; rm -rf {FOLDER}")


@pytest.mark.full
def test_a_certificate_is_issued_by_an_acme_server(host, acme, role, support):
    server = f"{acme['address']}:{PORTS['dns']}"
    variables = {
        "cert_manager_acme": True,
        "cert_manager_acme_server": f"https://{acme['address']}:{PORTS['acme']}/dir",
        "cert_manager_acme_server_ca": acme["ca"],
        "cert_manager_acme_email": "ops@example.org",
        "cert_manager_acme_dns01": {"rfc2136": {
            "nameserver": server, "tsigKeyName": "acme", "tsigAlgorithm": "HMACSHA256",
            "tsigSecretSecretRef": {"name": "dns-key", "key": "secret"},
        }},
        "cert_manager_acme_dns_zones": [ZONE],
        "cert_manager_acme_secrets": {"dns-key": {"secret": acme["key"]}},
        "cert_manager_proof_name": f"gateway.{ZONE}",
        "cert_manager_extra_values": {"dns01RecursiveNameservers": server, "dns01RecursiveNameserversOnly": True},
    }  # fmt: skip
    try:
        done = role("--diff", "-e", json.dumps(variables))
        assert done.code == 0, done.output[-4000:]
        assert acme["key"] not in done.output
        text = host.check_output("k3s kubectl -n cert-manager get secret skerry-proof -o jsonpath='{.data.tls\\.crt}'")
        chain = x509.load_pem_x509_certificates(base64.b64decode(text))
        chain[0].verify_directly_issued_by(chain[1])
        assert "Pebble" in chain[0].issuer.rfc4514_string()
        names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [f"gateway.{ZONE}"]
        done = role("-e", json.dumps(variables))
        assert done.code == 0, done.output[-4000:]
        assert "changed=0 " in done.output
    finally:
        done = role()
    assert done.code == 0, done.output[-4000:]
    support.ran(host, "cert-manager", "certificate issued by ACME, DNS01")
