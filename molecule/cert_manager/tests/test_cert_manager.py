"""cert-manager on a real k3s: certificates issued by the site's authority, and taken away."""

from __future__ import annotations

import base64
import json

from cryptography import x509
from shared_cluster import KUBECTL, apply, get

SPACE = "cert-manager"


def certificate(host, secret, space=SPACE, key="tls.crt"):
    return x509.load_pem_x509_certificate(base64.b64decode(get(host, f"secret {secret}", space)["data"][key]))


def test_a_certificate_is_issued_by_the_sites_authority(host, support):
    authority, proof = certificate(host, "skerry-ca"), certificate(host, "skerry-proof")
    proof.verify_directly_issued_by(authority)
    names = proof.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["proof.skerry.internal"]
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    support.ran(host, "cert-manager", "certificate issued")


def test_another_namespace_gets_one_too(host):
    """What other roles ask for: a Certificate of the default issuer, in a namespace of their own."""
    wanted = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {"name": "asked", "namespace": "default"},
        "spec": {
            "secretName": "asked",
            "dnsNames": ["asked.example.org"],
            "issuerRef": {"name": "skerry", "kind": "ClusterIssuer"},
        },
    }
    apply(host, wanted)
    try:
        host.check_output(f"{KUBECTL} -n default wait certificate/asked --for=condition=Ready --timeout=60s")
        certificate(host, "asked", "default").verify_directly_issued_by(certificate(host, "skerry-ca"))
    finally:
        host.run(f"{KUBECTL} -n default delete certificate/asked secret/asked")


def test_the_webhook_refuses_what_is_no_certificate(host):
    spec = {"secretName": "bad", "issuerRef": {"name": "skerry", "kind": "ClusterIssuer"}}
    bad = {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": "bad"}, "spec": spec}
    done = host.run(f"{KUBECTL} apply -f - <<'EOF'\n{json.dumps(bad)}\nEOF")
    assert done.rc != 0
    assert "at least one of" in done.stderr


def test_a_proof_that_is_gone_is_made_again(host, role):
    """A second run proves anew what no longer holds."""
    host.check_output(f"{KUBECTL} -n cert-manager delete certificate/skerry-proof secret/skerry-proof")
    done = role()
    assert done.code == 0, done.output[-3000:]
    assert "changed=1 " in done.output
    certificate(host, "skerry-proof").verify_directly_issued_by(certificate(host, "skerry-ca"))


def test_an_uninstallation_keeps_the_authority_until_data_is_given_up(host, role):
    key = get(host, "secret skerry-ca", SPACE)["data"]["tls.key"]
    done = role("-e", "cert_manager_state=absent")
    assert done.code == 0, done.output[-3000:]
    assert get(host, "deployment cert-manager", SPACE) is None
    assert get(host, "crd certificates.cert-manager.io", SPACE) is not None
    assert get(host, "secret skerry-ca", SPACE)["data"]["tls.key"] == key
    done = role("-e", "cert_manager_state=absent", "-e", "cert_manager_keep_data=false")
    assert done.code == 0, done.output[-3000:]
    assert get(host, "crd certificates.cert-manager.io", SPACE) is None
    assert get(host, "namespace cert-manager", SPACE) is None
