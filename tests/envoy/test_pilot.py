"""The translation into Envoy's rules: every form of every field, written down by hand; and Envoy takes what comes of
Istio's own examples."""

import json
import os
import subprocess
from pathlib import Path

import pilot
import pytest
import sidecar
import yaml
from certificates import Authority
from sets import PolicySet
from test_envoy import program

EXAMPLES = Path(os.environ.get("EASTWALL_CONFORMANCE", Path(__file__).resolve().parents[3] / "shared" / "conformance")) / "data" / "istio-authz" / "builder"


def authenticated(**name) -> dict:
    return {"authenticated": {"principalName": name}}


def regex(text: str) -> dict:
    return {"safeRegex": {"regex": text}}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"principals": ["td/ns/a/sa/b"]}, authenticated(exact="spiffe://td/ns/a/sa/b")),
        ({"principals": ["td/ns/*"]}, authenticated(prefix="spiffe://td/ns/")),
        ({"principals": ["*/sa/b.c"]}, authenticated(**regex(r"spiffe://.*/sa/b\.c"))),
        ({"principals": ["*"]}, authenticated(**regex(".+"))),
        ({"namespaces": ["a.b*"]}, authenticated(**regex(r".*/ns/a\.b.*/.*"))),
        ({"serviceAccounts": ["b"]}, authenticated(**regex("spiffe://.+/ns/foo/(.+/|)sa/b(/.+)?"))),
        ({"serviceAccounts": ["a/b"]}, authenticated(**regex("spiffe://.+/ns/a/(.+/|)sa/b(/.+)?"))),
        ({"trustDomains": ["td"]}, authenticated(prefix="spiffe://td/")),
        ({"trustDomains": ["*"]}, authenticated(prefix="spiffe://")),
        ({"trustDomains": ["t*"]}, authenticated(**regex("spiffe://t[^/]*/.*"))),
        ({"ipBlocks": ["10.1.2.3"]}, {"directRemoteIp": {"addressPrefix": "10.1.2.3", "prefixLen": 32}}),
        ({"remoteIpBlocks": ["10.1.2.3/8"]}, {"remoteIp": {"addressPrefix": "10.0.0.0", "prefixLen": 8}}),
    ],
)
def test_sources(source, expected):
    assert policy({"from": [{"source": source}]})["principals"] == [{"andIds": {"ids": [{"orIds": {"ids": [expected]}}]}}]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ({"hosts": ["*.x"]}, {"header": {"name": ":authority", "stringMatch": {"suffix": ".x", "ignoreCase": True}}}),
        ({"hosts": ["*"]}, {"header": {"name": ":authority", "presentMatch": True}}),
        ({"methods": ["GE*"]}, {"header": {"name": ":method", "stringMatch": {"prefix": "GE"}}}),
        ({"paths": ["/a*b"]}, {"urlPath": {"path": {"exact": "/a*b"}}}),
        ({"paths": ["*"]}, {"urlPath": {"path": regex(".+")}}),
        ({"ports": ["80"]}, {"destinationPort": 80}),
    ],
)
def test_operations(operation, expected):
    assert policy({"to": [{"operation": operation}]})["permissions"] == [{"andRules": {"rules": [{"orRules": {"rules": [expected]}}]}}]


def test_negations_stand_around_the_whole_list():
    made = policy({"from": [{"source": {"notIpBlocks": ["10.0.0.1", "10.0.0.2"]}}]})
    each = [{"directRemoteIp": {"addressPrefix": f"10.0.0.{number}", "prefixLen": 32}} for number in (1, 2)]
    assert made["principals"] == [{"andIds": {"ids": [{"notId": {"orIds": {"ids": each}}}]}}]


def test_tcp_drops_an_allow_rule_and_widens_a_deny():
    rule = {"to": [{"operation": {"methods": ["GET"], "ports": ["80"]}}]}
    assert policy(rule, tcp=True) is None
    assert policy(rule, tcp=True, lenient=True)["permissions"] == [{"andRules": {"rules": [{"orRules": {"rules": [{"destinationPort": 80}]}}]}}]


def test_trust_domains_stand_for_each_other():
    mesh = pilot.Mesh("td1", ["td2"])
    made = pilot.Rule({}, "foo", mesh, tcp=False, lenient=False).with_aliases(["cluster.local/ns/a/sa/b", "td9/ns/a/sa/b", "*2/ns/a/sa/b"])
    assert made == ["td1/ns/a/sa/b", "td2/ns/a/sa/b", "td9/ns/a/sa/b", "*2/ns/a/sa/b"]


def policy(rule: dict, tcp: bool = False, lenient: bool = False) -> dict | None:
    return pilot.Rule(rule, "foo", pilot.Mesh(), tcp, lenient).policy()


@pytest.fixture(scope="module")
def authority(module_folder):
    return Authority(module_folder)


def test_envoy_takes_what_comes_of_istios_examples(folder, authority):
    """What asks for metadata of Envoy's filters, or an external authorizer, is left out: Eastwall refuses it by name."""
    listeners = []
    files = sorted(EXAMPLES.rglob("*-in.yaml"))
    assert files or not EXAMPLES.parent.exists()
    for number, file in enumerate(files, 1):
        documents = [document for document in yaml.safe_load_all(file.read_text()) if document]
        documents = [document for document in documents if (document.get("spec") or {}).get("action") != "CUSTOM"]
        for document in documents:
            for rule in (document.get("spec") or {}).get("rules") or []:
                rule["when"] = [each for each in (rule or {}).get("when") or [] if not each["key"].startswith("experimental.")]
        policies = PolicySet(str(file.relative_to(EXAMPLES)), file, documents, (f"127.7.2.{number}", f"127.7.201.{number}"))
        listeners += [sidecar.http(policies, authority), sidecar.tcp(policies, authority)]
    configuration = folder / "envoy.json"
    configuration.write_text(json.dumps({"staticResources": {"listeners": listeners}}))
    done = subprocess.run([program(), "--mode", "validate", "-c", configuration, "-l", "error"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
