"""A policy that changes while traffic runs: no request lost, one generation a verdict, a broken file changes nothing."""

import os
import re
import signal

import pytest

from lab import servers
from lab.firewall import policy
from lab.program import Program, until
from lab.recorder import Recorder
from lab.scene import Scene
from lab.stage import HOST, Stage, shape_policy

WEB = [{"serviceAccount": "web"}]
REWRITES = 100


def version(number: int) -> list[dict]:
    """Every version allows what wrk asks for; the rest differs."""
    return [policy("orders", "orders", [
        {"name": f"reads-{number}", "from": WEB, "http": [{"methods": ["GET"], "paths": ["/orders/{id}"]}]},
        {"name": "changing", "from": WEB, "http": [{"methods": ["GET"], "paths": [f"/version/{number}"]}]},
    ])]


@pytest.mark.parametrize("placement", ["node", "sidecar"])
def test_no_request_is_lost_over_a_hundred_rewrites(folder, ending, placement):
    scene = Scene(folder, ending, placement, version(0), {"web": [], "orders": [{"name": "http", "port": 8080}]})
    servers.nginx(scene["orders"], folder, ending)
    firewall = scene.firewall()
    load = Program(scene["web"], ["wrk", "-t", "1", "-c", "16", "-d", "12s", "--latency", f"http://{scene['orders'].ipv4}:8080/orders/7"], folder, "wrk")
    ending.callback(load.stop)
    start = firewall.generation()
    for number in range(1, REWRITES + 1):
        before = firewall.generation()
        firewall.write_policies(version(number))
        if number % 2:
            until(lambda: firewall.generation() > before, "the next generation")
    assert load.wait(60) == 0
    said = load.text()
    requests = int(re.search(r"(\d+) requests in", said).group(1))
    print(said)
    assert requests > 500 and "Socket errors" not in said and "Non-2xx" not in said, said
    assert firewall.generation() >= start + REWRITES // 2
    # Each rule name belongs to one version: one generation never carries two.
    of_generation: dict[str, set] = {}
    for line in firewall.log():
        if line["event"] == "request" and line["verdict"] == "allow":
            of_generation.setdefault(str(line["generation"]), set()).add(line["rule"])
    assert len(of_generation) > REWRITES // 4
    assert all(len(rules) == 1 for rules in of_generation.values()), of_generation


@pytest.fixture
def stage(folder, ending):
    return Stage(folder, ending, shape_policy("A"))


def test_a_broken_file_leaves_the_old_table_in_force(stage):
    firewall = stage.firewall
    assert firewall.ask("/readyz")[0] == 200
    assert not firewall.complaints()
    before = firewall.metrics()
    firewall.write_policy_text("apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {name: orders, namespace: shop}\nspec: {subject: [{serviceAcount: orders}]}\n")

    def failures():
        now = firewall.metrics()
        return [key for key in now if key.startswith("eastwall_policy_reloads_total") and ("partial" in key or "failure" in key) and now[key] > before.get(key, 0)]

    until(failures, "a failed reload in the metrics")
    assert any("policy.yaml" in str(complaint) for complaint in firewall.complaints())
    assert stage.send("1", "GET", "/open/x").verdict == "allow" and stage.send("1", "GET", "/admin").verdict == "deny"
    firewall.write_policies(shape_policy("D"))
    until(lambda: stage.send("1", "GET", "/else").verdict == "allow", "the repaired file in force")
    assert not firewall.complaints()


def test_a_broken_document_closes_what_it_selects_and_holds_back_no_other(folder, ending):
    stage = Stage(folder, ending, [policy("web", "web", directions=["Ingress"])])
    firewall = stage.firewall
    assert stage.send("1", "GET", "/open/x").verdict == "allow", "nobody protects it yet"
    broken = "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {name: late, namespace: shop}\nspec:\n  subject: [{serviceAccount: orders}]\n  ingress: [{name: x, from: []}]\n"
    firewall.write_policy_text(broken, "broken.yaml")
    # It never had a good version: what it selects is closed.
    until(lambda: stage.send("1", "GET", "/open/x").verdict == "deny", "the broken document's subject closed")
    assert firewall.complaints()
    firewall.reload_and_wait(lambda: firewall.write_policies(shape_policy("A")))
    assert stage.send("1", "GET", "/open/x").verdict == "allow", "the other document is in force"
    assert stage.send("1", "GET", "/else").verdict == "deny"
    (firewall.policy_folder / "broken.yaml").unlink()
    until(lambda: not firewall.complaints(), "the end of the complaint")
    assert stage.send("1", "GET", "/open/x").verdict == "allow"


def test_ways_of_writing_are_all_seen(stage):
    import yaml

    firewall = stage.firewall
    text = {shape: yaml.safe_dump_all(shape_policy(shape)) for shape in ("A", "D")}
    file = firewall.policy_folder / "policy.yaml"

    def expect(shape):
        until(lambda: stage.send("1", "GET", "/else").verdict == ("allow" if shape == "D" else "deny"), f"shape {shape}")

    file.write_text(text["D"])  # in place
    expect("D")
    other = firewall.folder / "elsewhere.yaml"
    other.write_text(text["A"])
    os.replace(other, file)  # renamed over
    expect("A")
    file.unlink()
    (firewall.policy_folder / "again.yaml").write_text(text["D"])  # deleted and made again by another name
    expect("D")


def test_the_data_symlink_swap_of_mounted_folders_is_seen(folder, ending):
    import yaml

    stage = Stage(folder, ending, shape_policy("A"))
    firewall = stage.firewall
    root = firewall.policy_folder
    (root / "policy.yaml").unlink()

    def publish(name: str, shape: str):
        made = root / name
        made.mkdir()
        (made / "policy.yaml").write_text(yaml.safe_dump_all(shape_policy(shape)))
        (root / "..data_tmp").symlink_to(name)
        os.replace(root / "..data_tmp", root / "..data")

    publish("..one", "D")
    (root / "policy.yaml").symlink_to("..data/policy.yaml")
    until(lambda: stage.send("1", "GET", "/else").verdict == "allow", "the first mount")
    publish("..two", "A")
    until(lambda: stage.send("1", "GET", "/else").verdict == "deny", "the second mount")
    publish("..three", "D")
    until(lambda: stage.send("1", "GET", "/else").verdict == "allow", "the third mount")


def test_sighup_and_post_reload(stage):
    firewall = stage.firewall
    reloads = firewall.reloads()
    firewall.program.signal(signal.SIGHUP)
    until(lambda: firewall.reloads() > reloads, "a reload by SIGHUP")
    reloads = firewall.reloads()
    assert firewall.ask_socket("/reload", "POST")[0] in (200, 202, 204)
    until(lambda: firewall.reloads() > reloads, "a reload by POST /reload")
    assert stage.send("1", "GET", "/open/x").verdict == "allow"


def test_without_a_good_table_everything_protected_is_closed(folder, ending):
    stage = Stage.__new__(Stage)
    from lab.firewall import Firewall
    from lab.namespace import Namespace
    from lab.stage import BACKEND, LISTEN, ORDERS, WORKLOADS

    stage.place = Namespace("closed")
    ending.callback(stage.place.delete)
    stage.recorder = ending.enter_context(Recorder(stage.place, ORDERS, BACKEND))
    stage.firewall = Firewall(folder, "gateway", stage.place, [], WORKLOADS, listen=f"127.0.0.1:{LISTEN}", upstream=f"{ORDERS}:{BACKEND}")
    stage.firewall.write_policy_text("nonsense: [")
    ending.enter_context(stage.firewall)
    stage.firewall.launch()
    until(lambda: stage.firewall.ask("/healthz")[0] == 200, "health")
    assert stage.firewall.ask("/readyz")[0] != 200
    with stage.http1() as client:
        client.send(f"GET /open/x HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
        answer = client.response()
        assert answer is None or answer.status in (403, 503), answer
    assert stage.recorder.bytes_received == 0
    stage.firewall.write_policies(shape_policy("A"))
    stage.firewall.wait_ready()
    until(lambda: stage.send("1", "GET", "/open/x").verdict == "allow", "the first good table")
