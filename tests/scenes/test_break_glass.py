"""An emergency: what policies refuse passes for a while, is told of loudly, and ends by itself."""

import datetime

from lab.firewall import policy
from lab.program import until
from lab.stage import ATTACKER, Stage


def at(seconds: float) -> str:
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def emergency(begins: float, expires: float) -> dict:
    return {"apiVersion": "eastwall.dev/v1alpha1", "kind": "BreakGlass", "metadata": {"name": "fire"},
            "spec": {"subject": [{"serviceAccount": "orders", "namespace": "shop"}], "reason": "INC-7", "begins": at(begins), "expires": at(expires)}}


RULES = [policy("orders", "orders", [{"name": "web", "from": [{"serviceAccount": "web"}], "http": [{"paths": ["/open/**"]}]}])]


def test_it_opens_tells_and_ends(folder, ending):
    stage = Stage(folder, ending, RULES)
    ask = lambda target="/secret": stage.send("1", "GET", target, source=ATTACKER).status
    assert ask() == 403
    firewall = stage.firewall
    firewall.reload_and_wait(lambda: firewall.write_policies([emergency(-1, 4)], "fire.yaml"))
    assert ask() == 200
    assert ask("/a%2Fb") == 400, "what is not canonical stays refused"
    line = firewall.wait_log(lambda line: line.get("reason") == "break-glass")
    assert line["verdict"] == "allow" and line["audit"]["verdict"] == "deny", line
    until(lambda: firewall.metric("eastwall_break_glass_workloads") == 1, "the gauge")
    alert = firewall.wait_log(lambda line: line.get("alert") == "break-glass")
    assert alert["severity"] == "critical" and "INC-7" in str(alert), alert
    with stage.http1(ATTACKER) as client:
        client.send(b"GET /secret HTTP/1.1\r\nhost: orders\r\n\r\n")
        assert client.response().status == 200
        until(lambda: ask() == 403, "its end")
        client.send(b"GET /secret HTTP/1.1\r\nhost: orders\r\n\r\n")
        answer = client.response()
        assert answer is None or answer.status == 403
    until(lambda: firewall.metric("eastwall_break_glass_workloads") == 0, "the gauge")


def test_one_that_lasts_too_long_opens_nothing(folder, ending):
    stage = Stage(folder, ending, [*RULES, emergency(0, 4 * 3600 + 60)])
    assert stage.send("1", "GET", "/secret", source=ATTACKER).status == 403
    assert "4 hours" in str(stage.firewall.complaints())
