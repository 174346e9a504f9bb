"""Alert rules and dashboard ask only for what proxy and controller serve: each expression is parsed as PromQL, and each metric, label and word in it is looked up in the
lists that their own registries are held to."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import promql_parser
import pytest
import yaml
from lab.stage import ATTACKER, Stage, shape_policy

MONITORING = Path(__file__).resolve().parent.parent.parent / "deploy" / "monitoring"
OF_PROXIES, OF_CONTROLLERS = (json.loads((MONITORING / name).read_text()) for name in ("metrics.json", "controller-metrics.json"))
SERVED = OF_PROXIES | OF_CONTROLLERS
ALERTS = [rule for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# Whoever scrapes puts them there.
OF_THE_SCRAPE = {"instance", "job"}
POLICIES = shape_policy("A")


def plain(expression: str) -> str:
    """Without Grafana's own variables."""
    return expression.replace("$__rate_interval", "5m")


def selectors(expression: str) -> list[tuple[str, list, bool]]:
    """Each metric with its matchers, and whether it is asked how fast it grows."""
    found = []

    def visit(node) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            found.append((node.vector_selector.name, node.vector_selector.matchers.matchers, True))
        elif isinstance(node, promql_parser.VectorSelector):
            found.append((node.name, node.matchers.matchers, False))

    promql_parser.walk(promql_parser.parse(plain(expression)), visit)
    return found


def grouped(expression: str) -> set[str]:
    return {label.strip() for labels in re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", expression) for label in labels.split(",") if label.strip()}


def metric(name: str) -> tuple[dict, set[str]]:
    """The metric that a series belongs to, and its labels."""
    for ending in ("_bucket", "_sum", "_count"):
        whole = SERVED.get(name.removesuffix(ending), {})
        if name.endswith(ending) and whole.get("type") == "histogram":
            return whole, set(whole["labels"]) | ({"le"} if ending == "_bucket" else set())
    return SERVED[name], set(SERVED[name]["labels"])


def expressions() -> list:
    alerts = [pytest.param(rule["expr"], id=rule["alert"]) for rule in ALERTS]
    return alerts + [pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}") for panel in PANELS for target in panel["targets"]]


@pytest.mark.parametrize("expression", expressions())
def test_it_asks_for_what_is_served(expression):
    found = selectors(expression)
    assert found
    labels = set(OF_THE_SCRAPE)
    for name, matchers, grows in found:
        served, of = metric(name)
        labels |= of
        assert not grows or served["type"] in {"counter", "histogram"}, f"{name} does not only grow"
        for matcher in matchers:
            assert matcher.name in of | OF_THE_SCRAPE, f"{name} has no label {matcher.name}"
            words = served["labels"].get(matcher.name)
            if words:
                asked = matcher.value.split("|") if "Re" in str(matcher.op) else [matcher.value]
                assert set(asked) <= set(words), f"{name} never says {set(asked) - set(words)} in {matcher.name}"
    assert grouped(expression) <= labels


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_is_and_what_to_do(rule):
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description"}
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    kept = [set(each.split(", ")) for each in re.findall(r"\bby \(([^)]*)\)", rule["expr"])]
    assert all(named <= each for each in kept)
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert "for" not in rule or re.fullmatch(r"\d+m", rule["for"])


def test_names_are_unique():
    assert not set(OF_PROXIES) & set(OF_CONTROLLERS)
    assert len({rule["alert"] for rule in ALERTS}) == len(ALERTS)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_panels_do_not_overlap():
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24


def test_legends_name_labels_that_are_kept():
    for panel in PANELS:
        for target in panel["targets"]:
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            is_grouped = re.search(r"\b(sum|max|count|topk)\b", target["expr"])
            assert named <= (grouped(target["expr"]) if is_grouped else OF_THE_SCRAPE), panel["title"]


def test_every_metric_is_shown():
    shown = {name for panel in PANELS for target in panel["targets"] for name, _, _ in selectors(target["expr"])}
    assert {name for name in SERVED if not any(each.startswith(name) for each in shown)} == set()


def promtool(*words: str, folder: Path = MONITORING) -> subprocess.CompletedProcess:
    return subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True)


def test_prometheus_takes_the_rules_and_they_fire_when_they_should():
    for words in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"]):
        done = promtool(*words)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("what", "otherwise"),
    [(" offset 10m) > 0", " offset 1m) > 0"), ("<= 5 *", "<= 0 *"), ("count(count_values", "sum(count_values"), ("> 0\n    for: 15m", "> 5\n    for: 15m"),
     ("max(eastwall_controller_leader) == 0", "min(eastwall_controller_leader) == 0"), ("< 604800", "< 60480"), ("reason=~\"no-sidecar|", "reason=~\"left-alone|no-sidecar|"), ('{reason=~"token|permission"}[10m]', "[10m]")],
)
def test_the_tests_of_the_rules_can_fail(what, otherwise, tmp_path):
    text = (MONITORING / "alerts.yaml").read_text()
    assert what in text
    (tmp_path / "alerts.yaml").write_text(text.replace(what, otherwise))
    (tmp_path / "alerts.test.yaml").write_text((MONITORING / "alerts.test.yaml").read_text())
    assert promtool("test", "rules", "alerts.test.yaml", folder=tmp_path).returncode == 1


def test_a_running_proxy_serves_what_is_listed(folder, ending):
    stage = Stage(folder, ending, POLICIES)
    for target, source in [("/open/x", {}), ("/open/x", {"source": ATTACKER}), ("/a%2Fb", {})]:
        stage.send("1", "GET", target, **source)
    text = stage.firewall.ask("/metrics")[1]
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    assert types == {name: SERVED[name]["type"] for name in types}
    # The others have labels, and nothing has happened yet that they count; the age is of what a controller said.
    assert {name for name in OF_PROXIES if not SERVED[name]["labels"]} - {"eastwall_registry_age_seconds"} <= set(types)
    assert {"eastwall_requests_total", "eastwall_evasion_attempts_total", "eastwall_alerts_total", "eastwall_unprotected_workloads"} <= set(types)
    for name, labels in re.findall(r"^(eastwall_\w+){(.*)} \S+$", text, re.M):
        served, of = metric(name)
        found = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        assert set(found) == of, name
        for label, word in found.items():
            assert not served["labels"].get(label) or word in served["labels"][label], (name, label, word)


def test_the_checks_can_fail():
    with pytest.raises(KeyError):
        metric("eastwall_nothing_total")
    with pytest.raises(ValueError):
        promql_parser.parse("sum by (rate(eastwall_bytes_total[5m])")
