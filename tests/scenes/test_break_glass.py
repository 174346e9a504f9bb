"""An emergency: what policies refuse passes for a while, is told of loudly, and ends by itself."""

import datetime

import pytest

from lab.firewall import policy
from lab.program import until
from lab.stage import ATTACKER, Stage
from lab.tokens import Signer, claims, jwks


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
    firewall.reload_and_wait(lambda: firewall.write_policies([emergency(-1, 6)], "fire.yaml"))
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


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_token_that_is_refused_passes_and_is_not_believed(folder, ending, version):
    signer = Signer("ES256")
    spec = {"jwtRules": [{"issuer": "https://sso.example.com", "jwks": jwks(signer), "outputPayloadToHeader": "x-payload"}]}
    accepting = {"apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication", "metadata": {"name": "tokens", "namespace": "shop"}, "spec": spec}
    stage = Stage(folder, ending, [accepting])
    forged = Signer("ES256").sign(claims())
    ask = lambda *more: stage.send(version, "GET", "/x", headers=[(b"authorization", f"Bearer {forged}".encode()), *more], source=ATTACKER).status
    assert ask() == 401
    firewall = stage.firewall
    firewall.reload_and_wait(lambda: firewall.write_policies([emergency(-1, 6)], "fire.yaml"))
    assert ask() == 200
    assert stage.recorder.requests[-1].header("authorization") == f"Bearer {forged}"
    line = firewall.wait_log(lambda line: line.get("reason") == "break-glass")
    assert line["verdict"] == "allow", line
    assert (line["audit"]["verdict"], line["audit"]["policy"]) == ("deny", "RequestAuthentication shop/tokens"), line
    assert firewall.metric("eastwall_tokens_total", finding="accepted") == 0
    assert ask((b"x-payload", b"e30")) == 401, "the workload would take it for Istio's word"
    until(lambda: ask() == 401, "its end")
