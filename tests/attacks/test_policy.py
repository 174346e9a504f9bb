"""Policies that compiled into more than they said, and policy files that attack their reader. Ids are the numbers of the list of attacks."""

import itertools
import json
import os
import resource
import subprocess

import pytest
import yaml

from lab.firewall import binary, call, cluster_policy, decide, policy, settings
from lab.program import until
from lab.stage import HOST, WEB, WORKLOADS, Stage, shape_policy

WEB_PEER = [{"serviceAccount": "web"}]
REQUEST = {"src": {"ip": WEB}, "dst": {"workload": "shop/orders", "port": 8080}, "protocol": "http", "method": "GET", "path": "/x", "host": HOST, "direction": "inbound"}


def judged(folder, documents: list, requests: dict[str, dict], workloads: list | None = None) -> dict[str, str]:
    """Verdicts by name; every request starts from REQUEST."""
    file, entries = folder / "policy.yaml", folder / "workloads.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    entries.write_text(yaml.safe_dump(workloads or WORKLOADS))
    answers = decide([file], entries, [REQUEST | fields | {"id": name} for name, fields in requests.items()])
    return {name: answers[name]["verdict"] for name in requests}


def checked(folder, text: str | bytes) -> tuple[int, list]:
    """`eastwall check --format json`: exit code and diagnostics."""
    file = folder / "policy.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = call("check", file, "--format", "json", check=False)
    lines = done.stdout.strip()
    return done.returncode, json.loads(lines) if lines.startswith("[") else [json.loads(line) for line in lines.splitlines()]


HEAD = "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {name: orders, namespace: shop}\nspec:\n  subject: [{serviceAccount: orders}]\n"
BAD = {
    "unknown-field": HEAD + "  ingress:\n  - {name: a, from: [{serviceAccount: web}], httpp: [{}]}\n",
    "unknown-condition": HEAD + "  ingress:\n  - {name: a, from: [{serviceAccount: web}], http: [{newCondition: [x]}]}\n",
    "empty-from": HEAD + "  ingress:\n  - {name: a, from: [], http: [{}]}\n",
    "no-from": HEAD + "  ingress:\n  - {name: a, http: [{}]}\n",
    "empty-pods": HEAD + "  ingress:\n  - {name: a, from: [{pods: {}}], http: [{}]}\n",
    "duplicate-key": HEAD + "  subject: [{any: true}]\n  ingress:\n  - {name: a, from: [{serviceAccount: web}], http: [{}]}\n",
    "wrong-version": HEAD.replace("v1alpha1", "v9") + "  ingress:\n  - {name: a, from: [{serviceAccount: web}], http: [{}]}\n",
    "not-utf8": HEAD.encode().replace(b"orders,", b"\xff\xfe,"),
    "cut-short": HEAD[:-12],
    "alias-bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [" + ",".join([f"*{chr(97 + i)}"] * 9) + "]\n" for i in range(9)),
    "deep": "[" * 50_000,
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_attack_24_61_and_66_bad_documents_are_refused(folder, name):
    def small():
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))

    file = folder / "policy.yaml"
    file.write_bytes(BAD[name] if isinstance(BAD[name], bytes) else BAD[name].encode())
    done = subprocess.run([binary(), "check", str(file), "--format", "json"], capture_output=True, text=True, timeout=30, preexec_fn=small)
    assert done.returncode == 1, done
    assert "EW" in done.stdout, done.stdout
    decided = subprocess.run([binary(), "decide", "--policy", str(file), "--requests", "-"], input=json.dumps(REQUEST), capture_output=True, text=True, timeout=30)
    assert decided.returncode == 2, decided


@pytest.fixture(scope="module")
def live(module_folder, module_ending):
    return Stage(module_folder / "live", module_ending, shape_policy("A"))


@pytest.mark.parametrize("name", sorted(BAD))
def test_attack_24_and_66_last_good_stays_in_force(live, name):
    firewall = live.firewall
    good = (firewall.policy_folder / "policy.yaml").read_text()
    try:
        (firewall.policy_folder / "policy.yaml").write_bytes(BAD[name] if isinstance(BAD[name], bytes) else BAD[name].encode())
        until(firewall.complaints, "the detail of readiness")
        assert live.send("1", "GET", "/open/x").verdict == "allow", firewall.complaints()
        assert live.send("1", "GET", "/admin").verdict == "deny"
    finally:
        firewall.write_policy_text(good)
        until(lambda: not firewall.complaints(), "the good file in force")
    assert live.send("1", "GET", "/open/x").verdict == "allow"


def test_attack_46_patterns_are_linear_and_capped(folder):
    documents = [policy("orders", "orders", [{"name": "r", "from": WEB_PEER, "http": [{"paths": ["regex:/(a+)+$", "regex:/(x|xx|xxx)*y"]}]}])]
    text = "/" + "a" * 8000 + "!"
    assert judged(folder, documents, {"evil": {"path": text}, "evil2": {"path": "/" + "x" * 8000}, "good": {"path": "/aaaa"}}) == {"evil": "deny", "evil2": "deny", "good": "allow"}
    for pattern in ("regex:/(a{1000}){1000}", "regex:/((((((a{100}){100}){100}){100}){100}){100})"):
        documents[0]["spec"]["ingress"][0]["http"][0]["paths"] = [pattern]
        code, found = checked(folder, yaml.safe_dump_all(documents))
        assert code == 1 and found, "an oversize pattern is refused"
        assert "policy.yaml" in json.dumps(found) and "line" in json.dumps(found)


def test_attack_47_no_cartesian_expansion(folder):
    rule = {"name": "all", "from": [{"serviceAccount": f"client-{number}"} for number in range(1000)],
            "http": [{"methods": ["GET"], "paths": [f"/route/{number}/**" for number in range(1000)]}]}
    file = folder / "policy.yaml"
    file.write_text(yaml.safe_dump(policy("orders", "orders", [rule])))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    done = subprocess.run([binary(), "compile", str(file), "--stats"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    assert max(0, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - before) < 300_000
    workloads = WORKLOADS[:1] + [{"name": f"c{number}", "namespace": "shop", "serviceAccount": f"client-{number}", "ips": [f"127.1.{number // 250}.{number % 250 + 1}"]} for number in (0, 500, 999)]
    got = judged(folder, [policy("orders", "orders", [rule])], {
        "first": {"src": {"ip": "127.1.0.1"}, "path": "/route/0/x"}, "last": {"src": {"ip": "127.1.3.250"}, "path": "/route/999"}, "none": {"src": {"ip": "127.1.2.1"}, "path": "/route/1000"}}, workloads)
    assert got == {"first": "allow", "last": "allow", "none": "deny"}


@pytest.mark.parametrize("name", ["*-svc", "svc", "a-svc"])
def test_attack_51_wildcards_are_written_or_refused(folder, name):
    """A service account is a name: a pattern in it never silently matches nothing in a deny."""
    documents = [policy("orders", "orders", [{"name": "open", "from": [{"any": True}], "http": [{}]}, {"name": "no", "action": "Deny", "from": [{"serviceAccount": name}]}])]
    if "*" in name:
        code, found = checked(folder, yaml.safe_dump_all(documents))
        assert code == 1 and found
    else:
        workloads = WORKLOADS + [{"name": "x", "namespace": "shop", "serviceAccount": name, "ips": ["127.0.0.7"]}]
        assert judged(folder, documents, {"x": {"src": {"ip": "127.0.0.7"}}, "tcp": {"src": {"ip": "127.0.0.7"}, "protocol": "tcp"}, "web": {}}, workloads) == {"x": "deny", "tcp": "deny", "web": "allow"}


def test_attack_52_a_dot_is_a_dot(folder):
    workloads = WORKLOADS[:1] + [{"name": name, "namespace": "shop", "serviceAccount": name, "ips": [ip]} for name, ip in (("cert-manager.io", "127.0.0.5"), ("cert-manager-io", "127.0.0.6"))]
    documents = [policy("orders", "orders", [{"name": "a", "from": [{"serviceAccount": "cert-manager.io"}], "http": [{"paths": ["/a.b"], "hosts": ["a.local"]}]}])]
    got = judged(folder, documents, {
        "right": {"src": {"ip": "127.0.0.5"}, "path": "/a.b", "host": "a.local"}, "account": {"src": {"ip": "127.0.0.6"}, "path": "/a.b", "host": "a.local"},
        "path": {"src": {"ip": "127.0.0.5"}, "path": "/axb", "host": "a.local"}, "host": {"src": {"ip": "127.0.0.5"}, "path": "/a.b", "host": "axlocal"}}, workloads)
    assert got == {"right": "allow", "account": "deny", "path": "deny", "host": "deny"}


def test_attack_53_unknown_is_never_enough_for_an_allow(folder):
    cluster = settings(cluster={"networks": ["127.0.0.0/8"]})
    unknown, external = {"src": {"ip": "127.0.0.99"}}, {"src": {"ip": "203.0.113.9"}}
    rules = {
        "negative-allow": {"name": "a", "from": [{"any": True}], "notFrom": [{"serviceAccount": "attacker"}], "http": [{}]},
        "account-allow": {"name": "a", "from": [{"serviceAccount": "web"}], "http": [{}]},
        "namespace-allow": {"name": "a", "from": [{"namespace": "shop"}], "http": [{}]},
        "any-allow": {"name": "a", "from": [{"any": True}], "http": [{}]},
    }
    wanted = {"negative-allow": ("deny", "allow"), "account-allow": ("deny", "deny"), "namespace-allow": ("deny", "deny"), "any-allow": ("allow", "allow")}
    for name, rule in rules.items():
        got = judged(folder, [cluster, policy("orders", "orders", [rule])], {"unknown": unknown, "external": external})
        assert (got["unknown"], got["external"]) == wanted[name], name
    opened = {"name": "open", "from": [{"any": True}], "http": [{}]}
    for deny, wanted_pair in (({"from": [{"serviceAccount": "attacker"}]}, ("deny", "allow")), ({"from": [{"any": True}], "notFrom": [{"serviceAccount": "web"}]}, ("deny", "deny"))):
        got = judged(folder, [cluster, policy("orders", "orders", [opened, {"name": "no", "action": "Deny"} | deny])], {"unknown": unknown, "external": external})
        assert (got["unknown"], got["external"]) == wanted_pair, deny
    two_owners = WORKLOADS + [{"name": "twin", "namespace": "shop", "serviceAccount": "twin", "ips": [WEB]}]
    assert judged(folder, [cluster, policy("orders", "orders", [rules["account-allow"]])], {"twin": {}}, two_owners) == {"twin": "deny"}


def test_attack_58_a_range_never_empties_an_l7_rule(folder):
    workloads = [WORKLOADS[0] | {"ports": [{"name": "http", "port": 8080}, {"name": "raw", "port": 8081}]}] + WORKLOADS[1:]
    documents = [policy("orders", "orders", [{"name": "l7", "from": WEB_PEER, "ports": [8080], "http": [{"paths": ["/only"]}]}, {"name": "range", "from": [{"serviceAccount": "attacker"}], "ports": ["8000-9000"], "tcp": {}},
                                             {"name": "no", "action": "Deny", "from": [{"any": True}], "ports": ["8070-8090"], "http": [{"paths": ["/secret"]}]}])]
    attacker = {"src": {"ip": "127.0.0.4"}}
    got = judged(folder, documents, {"l7": {"path": "/only"}, "other": {"path": "/other"}, "web-8081": {"dst": {"workload": "shop/orders", "port": 8081}, "protocol": "tcp"},
                                     "range": attacker | {"dst": {"workload": "shop/orders", "port": 8999}, "protocol": "tcp"}, "outside": attacker | {"dst": {"workload": "shop/orders", "port": 9001}, "protocol": "tcp"},
                                     "secret": attacker | {"path": "/secret"}, "hidden": attacker | {"protocol": "tcp"}}, workloads)
    assert got == {"l7": "allow", "other": "deny", "web-8081": "deny", "range": "allow", "outside": "deny", "secret": "deny", "hidden": "deny"}


def test_attack_59_a_deny_wins_over_a_narrower_allow(folder):
    stranger = {"src": {"ip": "203.0.113.9"}}
    for order in itertools.permutations([
        {"name": "narrow", "from": [{"cidr": "203.0.113.9/32"}], "ports": ["http"], "http": [{}]},
        {"name": "wide", "action": "Deny", "from": [{"cidr": "203.0.112.0/20"}]},
    ]):
        assert judged(folder, [policy("orders", "orders", list(order))], {"s": stranger}) == {"s": "deny"}
    allow = policy("orders", "orders", [{"name": "narrow", "from": [{"cidr": "203.0.113.9/32"}], "ports": ["http"], "http": [{}]}])
    admin = cluster_policy("doors", "Admin", subject=[{"any": True}], ingress=[{"name": "wide", "action": "Deny", "from": [{"cidr": "203.0.0.0/8"}]}])
    assert judged(folder, [allow, admin], {"s": stranger}) == {"s": "deny"}


def test_attack_60_adding_a_deny_never_widens(folder):
    allow = {"name": "a", "from": WEB_PEER, "http": [{"paths": ["/a/**"]}]}
    deny = {"name": "d", "action": "Deny", "from": WEB_PEER, "ports": ["http"], "http": [{"paths": ["/a/secret"]}]}
    requests = {f"{path}|{proto}": {"path": path, "protocol": proto} if proto == "http" else {"protocol": proto} for path in ("/a/x", "/a/secret", "/b") for proto in ("http", "tcp", "tls")}
    passed = {}
    for name, rules in (("none", []), ("deny", [deny]), ("allow", [allow]), ("both", [allow, deny])):
        got = judged(folder, [policy("orders", "orders", rules or None, directions=["Ingress"])], requests)
        passed[name] = {request for request, verdict in got.items() if verdict == "allow"}
    assert passed["none"] == passed["deny"] == set()
    assert passed["both"] < passed["allow"] == {"/a/x|http", "/a/secret|http"}


def test_attack_61_nothing_selected_is_nobody(folder):
    """A peer that nobody is yet matches nobody; a policy without rules closes."""
    documents = [policy("orders", "orders", [{"name": "a", "from": [{"serviceAccount": "nobody-yet"}], "http": [{}]}])]
    assert judged(folder, documents, {"web": {}, "external": {"src": {"ip": "203.0.113.9"}}}) == {"web": "deny", "external": "deny"}
    assert judged(folder, [policy("orders", "orders", None, directions=["Ingress"])], {"web": {}}) == {"web": "deny"}


def test_attack_62_labels_as_a_peer_are_warned_of(folder):
    documents = [policy("orders", "orders", [{"name": "a", "from": [{"pods": {"matchLabels": {"app": "web"}}}], "http": [{}]}])]
    code, found = checked(folder, yaml.safe_dump_all(documents))
    assert code == 0 and any("warning" in json.dumps(finding).lower() for finding in found), found
    labelled = [WORKLOADS[0], WORKLOADS[2] | {"labels": {"serviceAccount": "web", "app": "web"}}]
    accounts = [policy("orders", "orders", [{"name": "a", "from": WEB_PEER, "http": [{}]}])]
    assert judged(folder, accounts, {"liar": {"src": {"ip": "127.0.0.4"}}}, labelled) == {"liar": "deny"}


def test_attack_66_huge_file_is_refused(live):
    firewall = live.firewall
    file = firewall.policy_folder / "huge.yaml"
    with open(file, "wb") as made:
        made.truncate(1 << 30)
    try:
        until(firewall.complaints, "the detail of readiness")
        assert live.send("1", "GET", "/open/x").verdict == "allow" and live.send("1", "GET", "/admin").verdict == "deny"
        with open(f"/proc/{firewall.program.pid}/statm", encoding="ascii") as stat:
            assert int(stat.read().split()[1]) * resource.getpagesize() < 256 << 20
    finally:
        os.remove(file)


def test_attack_66_partial_write_and_symlink_swap(live):
    firewall = live.firewall
    good = (firewall.policy_folder / "policy.yaml").read_text()
    with open(firewall.policy_folder / "policy.yaml", "w", encoding="utf-8") as file:
        for at in range(0, len(good), 40):
            file.write(good[at : at + 40])
            file.flush()
            assert live.send("1", "GET", "/admin").verdict == "deny", "a half-written file opens nothing"
    until(lambda: live.send("1", "GET", "/open/x").verdict == "allow", "the whole file in force")
