"""Who a request is from by its token: real curl, real keys, files and servers of keys that change and go away."""

import json
import threading
import time

import jwt
import pytest
import yaml

from lab.firewall import policy, replace_file
from lab.program import until
from lab.stage import HOST, LISTEN, WEB, Stage
from lab.tokens import KINDS, KeyServer, Signer, authority, claims, jwks
from lab.wire import Http1, Http2

ISSUER = "https://sso.example.com"
KEYS = "127.0.0.5"
CURL = {"1": "--http1.1", "2": "--http2-prior-knowledge"}


def refunds(issuer: str = ISSUER) -> list[dict]:
    """What may be done with a token alone, what without, and what never with some token."""
    web = [{"serviceAccount": "web"}]
    asked = {"issuer": issuer, "claims": [{"path": ["role"], "values": ["refund"]}]}
    contractor = {"issuer": issuer, "claims": [{"path": ["role"], "values": ["contractor"]}]}
    return [policy("orders", "orders", [
        {"name": "refund", "from": web, "http": [{"paths": ["/refund"], "jwt": asked}]},
        {"name": "read", "from": web, "http": [{"paths": ["/read"]}]},
        {"name": "no-contractors", "action": "Deny", "from": [{"any": True}], "ports": ["http"], "http": [{"paths": ["/read"], "jwt": contractor}]},
    ])]


def curl(stage, version: str, path: str, *lines: str, source: str = WEB) -> tuple[int, dict]:
    """Status and headers of what curl got."""
    arguments = ["curl", "-s", "-o", "/dev/null", "-D", "-", CURL[version], "--max-time", "10", "--interface", source]
    for line in lines:
        arguments += ["-H", line]
    said = stage.place.run([*arguments, f"http://127.0.0.1:{LISTEN}{path}"]).stdout
    start, *rest = said.replace("\r", "").strip().split("\n")
    return int(start.split()[1]), {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}"


def asks(stage, token: str | None, path: str = "/refund", version: str = "1") -> int:
    """The status that a token gets."""
    return curl(stage, version, path, *([bearer(token)] if token else []))[0]


def configured(folder, ending, tokens: list[dict], *arguments, policies: list[dict] | None = None, **limits) -> Stage:
    """A gateway that believes these issuers."""
    folder.mkdir(exist_ok=True)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"tokens": tokens, "tokenLimits": limits}))
    return Stage(folder, ending, refunds() if policies is None else policies, arguments=["--config", config, *arguments])


@pytest.fixture(scope="module")
def signers():
    return {algorithm: Signer(algorithm) for algorithm in KINDS}


@pytest.fixture(scope="module")
def stage(module_folder, module_ending, signers):
    """Keys of every kind in a file."""
    keys = module_folder / "keys.json"
    keys.write_text(jwks(*signers.values()))
    return configured(module_folder / "stage", module_ending, [{"issuer": ISSUER, "audiences": ["orders"], "jwks": str(keys)}])


@pytest.mark.parametrize("version", CURL)
@pytest.mark.parametrize("algorithm", KINDS)
def test_a_token_of_every_kind_is_believed(stage, signers, algorithm, version):
    token = signers[algorithm].sign(claims())
    stage.recorder.forget()
    assert asks(stage, token, version=version) == 200
    assert asks(stage, token, version=version) == 200, "from memory"
    assert stage.recorder.wait_requests(2)[0].header("authorization") == f"Bearer {token}", "the server gets it too"
    assert asks(stage, signers[algorithm].sign(claims(role="read")), version=version) == 403
    assert asks(stage, None, version=version) == 403
    assert asks(stage, None, "/read", version) == 200


def never_good(signers) -> dict[str, str]:
    """Tokens that nobody may believe, by what is wrong."""
    rsa, now = signers["RS256"], int(time.time())
    good = rsa.sign(claims())
    head, payload, signature = good.split(".")
    forged = jwt.encode(claims(role="refund", sub="root"), "x" * 32, "HS256").split(".")[1]
    return {
        "wrong key": Signer("RS256").sign(claims()),
        "unknown key": Signer("RS256", "other").sign(claims()),
        "wrong algorithm for the key": jwt.encode(claims(), rsa.key, "PS256", headers={"kid": "RS256"}),
        "alg none": jwt.encode(claims(), None, "none"),
        "alg none with the signature": f"{jwt.encode(claims(), None, 'none').split('.')[0]}.{payload}.{signature}",
        "HS256 by the public key": hs256(rsa.pem()),
        "HS256 by the modulus": hs256(rsa.jwk()["n"].encode()),
        "expired": rsa.sign(claims(exp=now - 120)),
        "never expires": rsa.sign(claims(exp=None)),
        "not yet valid": rsa.sign(claims(nbf=now + 120)),
        "wrong issuer": rsa.sign(claims(iss="https://sso.example.com/")),
        "no issuer": rsa.sign(claims(iss=None)),
        "wrong audience": rsa.sign(claims(aud="stock")),
        "no audience": rsa.sign(claims(aud=None)),
        "other claims": f"{head}.{forged}.{signature}",
        "padded": good + "=",
        "cut": good[:-4],
        "no signature": f"{head}.{payload}.",
        "opaque": "0123456789",
        "too long": rsa.sign(claims(pad="x" * 9000)),
        "critical header": rsa.sign(claims(), crit=["exp"], exp=1),
    }


def hs256(secret: bytes) -> str:
    """Signed as PyJWT itself refuses to."""
    import base64
    import hashlib
    import hmac

    encoded = lambda part: base64.urlsafe_b64encode(part).rstrip(b"=")
    message = encoded(json.dumps({"alg": "HS256", "kid": "RS256"}).encode()) + b"." + encoded(json.dumps(claims()).encode())
    return (message + b"." + encoded(hmac.new(secret, message, hashlib.sha256).digest())).decode()


@pytest.mark.parametrize("version", CURL)
def test_what_is_not_believed_opens_nothing(stage, signers, version):
    for what, token in never_good(signers).items():
        assert asks(stage, token, version=version) == 403, what
        assert asks(stage, token, "/read", version) == 403, f"{what}: the server might take it for a contractor's"
    assert asks(stage, signers["RS256"].sign(claims(role="contractor")), "/read", version) == 403
    assert asks(stage, signers["RS256"].sign(claims()), "/read", version) == 200


@pytest.mark.parametrize("version", CURL)
def test_several_tokens_are_none(stage, signers, version):
    good, contractor = signers["RS256"].sign(claims()), signers["RS256"].sign(claims(role="contractor"))
    for lines in ([bearer(good), bearer(good)], [bearer(good), bearer(contractor)], [bearer(contractor), bearer(good)],
                  ["Authorization: Basic eDp5", bearer(good)], [f"{bearer(good)}, Bearer {contractor}"]):
        assert curl(stage, version, "/refund", *lines)[0] == 403, lines
        assert curl(stage, version, "/read", *lines)[0] == 403, lines
    assert curl(stage, version, "/read", "Authorization: Basic eDp5")[0] == 200
    assert curl(stage, version, "/refund", f"authorization: bearer {good}")[0] == 200


def test_a_connection_may_not_take_the_token_away_after_the_verdict(stage, signers):
    line = bearer(signers["RS256"].sign(claims()))
    assert curl(stage, "1", "/refund", line, "Connection: authorization")[0] == 400


def test_findings_are_counted_and_no_token_is_logged(stage, signers):
    firewall = stage.firewall
    counted = lambda finding: firewall.metric("eastwall_tokens_total", finding=finding)
    before = {finding: counted(finding) for finding in ("accepted", "expired", "signature", "unreadable")}
    token = signers["ES256"].sign(claims())
    expired = signers["ES256"].sign(claims(exp=1))
    for one in (token, expired, Signer("ES256").sign(claims()), "opaque"):
        asks(stage, one)
    assert all(counted(finding) == before[finding] + 1 for finding in before), before
    firewall.wait_log(lambda line: line["event"] == "request")
    told = firewall.log_file.read_text() + firewall.program.text() + firewall.ask_socket("/flows")[1]
    for one in (token, expired):
        assert not any(part in told for part in one.split(".")[1:]), "a token is a secret"


def test_keys_in_a_file_are_rotated_and_a_broken_file_changes_nothing(folder, ending):
    old, new = Signer("ES256", "old"), Signer("ES256", "new")
    keys = folder / "keys.json"
    keys.write_text(jwks(old))
    stage = configured(folder / "stage", ending, [{"issuer": ISSUER, "audiences": ["orders"], "jwks": str(keys)}])
    before, after = old.sign(claims()), new.sign(claims())
    assert (asks(stage, before), asks(stage, after)) == (200, 403)
    replace_file(keys, jwks(old, new))
    until(lambda: asks(stage, after) == 200, "the new key in force")
    assert asks(stage, before) == 200
    failures = lambda: stage.firewall.metric("eastwall_token_keys_reads_total", result="failure")
    for broken in ("", "{", json.dumps({"keys": []}), json.dumps({"keys": [new.jwk()] * 33}), " " * 300_000):
        had = failures()
        keys.write_text(broken)
        until(lambda: failures() > had, "the failed reading counted")
        assert (asks(stage, before), asks(stage, after)) == (200, 200), "the last good keys stay"
    assert "the last good ones stay" in stage.firewall.program.text()
    replace_file(keys, jwks(new))
    until(lambda: asks(stage, before) == 403, "the old key gone")
    assert asks(stage, after) == 200


def test_without_keys_nothing_is_believed(folder, ending):
    signer = Signer("EdDSA")
    keys = folder / "keys.json"
    stage = configured(folder / "stage", ending, [{"issuer": ISSUER, "audiences": ["orders"], "jwks": str(keys)}])
    token = signer.sign(claims())
    assert (asks(stage, token), asks(stage, token, "/read"), asks(stage, None, "/read")) == (403, 403, 200)
    assert stage.firewall.metric("eastwall_token_keys_missing") == 1
    keys.write_text(jwks(signer))
    until(lambda: asks(stage, token) == 200, "the keys in force")
    assert asks(stage, token, "/read") == 200
    assert stage.firewall.metric("eastwall_token_keys_missing") == 0


def test_algorithms_may_be_fewer(folder, ending, signers):
    keys = folder / "keys.json"
    keys.write_text(jwks(*signers.values()))
    stage = configured(folder / "stage", ending, [{"issuer": ISSUER, "audiences": ["orders"], "jwks": str(keys), "algorithms": ["ES256"]}],
                       tokenBytes=400, tokenLeeway="300s")
    assert asks(stage, signers["ES256"].sign(claims())) == 200
    assert asks(stage, signers["ES384"].sign(claims())) == 403
    assert asks(stage, signers["ES256"].sign(claims(exp=int(time.time()) - 120))) == 200, "within the leeway"
    assert asks(stage, signers["ES256"].sign(claims(pad="x" * 200))) == 403, "too long"


def test_keys_from_a_server_are_fetched_again_and_kept_when_it_is_gone(folder, ending):
    old, new = Signer("ES256", "old"), Signer("ES256", "new")
    served = {"/keys": jwks(old)}
    stage = configured(folder / "stage", ending, [{"issuer": ISSUER, "audiences": ["orders"], "jwks": f"http://{KEYS}:8099/keys"}],
                       "--jwks-retry", "500ms", "--jwks-refresh", "1h")
    before, after = old.sign(claims()), new.sign(claims())
    assert asks(stage, before) == 403, "nobody has answered"
    server = ending.enter_context(KeyServer(stage.place, KEYS, 8099, served))
    until(lambda: asks(stage, before) == 200, "the keys")
    # A key that is not there is looked for; the request is not held up, nor is the server flooded.
    fetched = len(server.asked)
    started = time.monotonic()
    for _ in range(20):
        assert asks(stage, after) == 403
    spent = time.monotonic() - started
    time.sleep(0.6)
    assert fetched < len(server.asked) <= fetched + 2 + spent / 0.5
    served["/keys"] = jwks(old, new)
    until(lambda: asks(stage, after) == 200, "the key that was looked for")
    quiet = len(server.asked)
    assert asks(stage, before) == 200 and len(server.asked) == quiet
    # Redirects, errors, too much and nonsense are no keys.
    failures = lambda: stage.firewall.metric("eastwall_token_keys_reads_total", result="failure")
    stranger = Signer("ES256", "stranger").sign(claims())
    for document in (None, "nonsense", jwks(old) + " " * 300_000):
        had = failures()
        served["/keys"] = document
        until(lambda: asks(stage, stranger) == 403 and failures() > had, "the failure counted")
        assert (asks(stage, before), asks(stage, after)) == (200, 200)
    server.close()
    had = failures()
    until(lambda: asks(stage, stranger) == 403 and failures() > had, "the silence counted")
    assert (asks(stage, before), asks(stage, after)) == (200, 200), "the last good keys stay"
    served["/keys"] = jwks(new)
    server.open()
    until(lambda: asks(stage, before) == 403, "the next set")


def test_keys_are_refreshed_in_time_over_tls(folder, ending):
    old, new = Signer("RS256", "old"), Signer("RS256", "new")
    ca, tls = authority(folder, KEYS)
    served = {"/keys": jwks(old)}
    address = {"issuer": ISSUER, "audiences": ["orders"], "jwks": f"https://{KEYS}:8443/keys"}
    stage = configured(folder / "stage", ending, [address], jwksCa=str(ca), jwksRetry="300ms", jwksRefresh="1s")
    ending.enter_context(KeyServer(stage.place, KEYS, 8443, served, tls))
    before = old.sign(claims())
    until(lambda: asks(stage, before) == 200, "the keys")
    served["/keys"] = jwks(new)
    until(lambda: asks(stage, before) == 403, "the key that was withdrawn")
    assert asks(stage, new.sign(claims())) == 200


def test_a_server_that_nobody_vouches_for_is_not_believed(folder, ending):
    signer = Signer("RS256")
    _, tls = authority(folder, KEYS)
    address = {"issuer": ISSUER, "audiences": ["orders"], "jwks": f"https://{KEYS}:8443/keys"}
    stage = configured(folder / "stage", ending, [address], jwksRetry="300ms")
    ending.enter_context(KeyServer(stage.place, KEYS, 8443, {"/keys": jwks(signer)}, tls))
    until(lambda: stage.firewall.metric("eastwall_token_keys_reads_total", result="failure") >= 2, "two failures")
    assert asks(stage, signer.sign(claims())) == 403


def test_an_issuer_says_where_its_keys_are(folder, ending):
    signer, issuer = Signer("EdDSA"), f"http://{KEYS}:8099"
    stage = configured(folder / "stage", ending, [{"issuer": issuer, "audiences": ["orders"]}], "--jwks-retry", "300ms", policies=refunds(issuer))
    found = "/.well-known/openid-configuration"
    served = {found: json.dumps({"issuer": "http://other", "jwks_uri": f"{issuer}/keys"}), "/keys": jwks(signer)}
    server = ending.enter_context(KeyServer(stage.place, KEYS, 8099, served))
    until(lambda: len(server.asked) >= 2, "two questions")
    token = signer.sign(claims(iss=issuer))
    assert set(server.asked) == {found} and asks(stage, token) == 403, "it speaks of another issuer"
    served[found] = json.dumps({"issuer": issuer, "jwks_uri": f"{issuer}/keys"})
    until(lambda: asks(stage, token) == 200, "the keys")


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("why", ["ended", "ended at a swap", "key withdrawn"])
def test_an_open_request_is_cut_when_its_token_no_longer_counts(folder, ending, version, why):
    signer, held = Signer("ES256"), threading.Event()
    ending.callback(held.set)
    keys = folder / "keys.json"
    keys.write_text(jwks(signer))
    leeway = "0s" if why == "ended" else "2s"
    stage = configured(folder / "stage", ending, [{"issuer": ISSUER, "audiences": ["orders"], "jwks": str(keys)}], tokenLeeway=leeway)
    stage.recorder.answer = lambda request: (held.wait(20), (200, [], b"late"))[1]
    line = bearer(signer.sign(claims(exp=int(time.time()) + (3600 if why == "key withdrawn" else 3))))
    with stage.connect(timeout=20) as connection:
        if version == "1":
            client = Http1(connection)
            client.send(f"GET /refund HTTP/1.1\r\nhost: {HOST}\r\n{line}\r\n\r\n".encode())
        else:
            client = Http2(connection)
            stream = client.request([(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/refund"), (b":authority", HOST.encode()),
                                     (b"authorization", line.partition(": ")[2].encode())])
            client.pump(1)
        until(lambda: stage.recorder.bytes_received > 20, "the request at the receiver")
        started = time.monotonic()
        if why == "key withdrawn":
            replace_file(keys, jwks(Signer("ES256")))
        elif why == "ended at a swap":
            time.sleep(5)
            changed = refunds()
            changed[0]["spec"]["ingress"].append({"name": "more", "from": [{"serviceAccount": "web"}], "http": [{"paths": ["/more"]}]})
            stage.firewall.write_policies(changed)
        if version == "1":
            late = client.response(timeout=20)
            assert late is None or late.status == 403, late
        else:
            late = client.wait(stream, 20)
            assert late.reset is not None or late.status == 403 or client.closed, late
        spent = time.monotonic() - started
        assert spent < {"ended": 10, "ended at a swap": 7, "key withdrawn": 3}[why], spent
        assert stage.firewall.wait_log(lambda line: line["event"] == "revocation")["verdict"] == "deny"


# === Istio ===


def istio(kind: str, name: str, **spec) -> dict:
    return {"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec}


def authentication(*rules: dict) -> dict:
    return istio("RequestAuthentication", "tokens", jwtRules=list(rules))


KIM = istio("AuthorizationPolicy", "kim", rules=[
    {"from": [{"source": {"requestPrincipals": [f"{ISSUER}/kim"]}}], "to": [{"operation": {"paths": ["/refund"]}}]},
    {"to": [{"operation": {"paths": ["/read"]}}]},
])


@pytest.fixture(scope="module")
def mesh(module_folder, module_ending, signers):
    """A RequestAuthentication with its keys in it."""
    rule = {"issuer": ISSUER, "audiences": ["orders"], "jwks": jwks(*signers.values())}
    return Stage(module_folder / "mesh", module_ending, [authentication(rule), KIM])


@pytest.mark.parametrize("version", CURL)
def test_a_request_authentication_refuses_with_401(mesh, signers, version):
    good = signers["RS256"].sign(claims())
    assert (asks(mesh, good, version=version), asks(mesh, good, "/read", version)) == (200, 200)
    assert (asks(mesh, None, version=version), asks(mesh, None, "/read", version)) == (403, 200), "no token is no identity"
    assert asks(mesh, signers["RS256"].sign(claims(sub="lee")), version=version) == 403
    for what, token in never_good(signers).items():
        status, headers = curl(mesh, version, "/read", bearer(token))
        assert (status, headers.get("www-authenticate")) == (401, 'Bearer error="invalid_token"'), what
    assert curl(mesh, version, "/read", bearer(good), bearer(good))[0] == 401
    assert asks(mesh, None, f"/read?access_token={good}", version) == 200
    assert asks(mesh, None, f"/refund?access_token={good}", version) == 200
    assert asks(mesh, None, "/read?access_token=x", version) == 401
    line = mesh.firewall.wait_log(lambda line: line.get("reason") == "invalid-token")
    assert (line["verdict"], line["http.response.status_code"]) == ("deny", 401)
    assert line["policy"] == "RequestAuthentication shop/tokens" and "policy.yaml" in line["rule_location"], line


def test_a_grpc_call_is_unauthenticated(mesh, signers):
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/shop.v1.Orders/Get"), (b":authority", HOST.encode()), (b"content-type", b"application/grpc")]
    answer = mesh.fields([*fields, (b"authorization", b"Bearer a.b.c")]).answer
    said = dict(answer.headers) | dict(answer.trailers)
    assert (answer.status, said[b"grpc-status"]) == (200, b"16"), said


def test_a_refused_token_leaves_the_connection_usable(mesh, signers):
    with mesh.http1() as client:
        for token, expected in (("a.b.c", 401), (signers["ES256"].sign(claims()), 200)):
            client.send(f"GET /refund HTTP/1.1\r\nhost: {HOST}\r\n{bearer(token)}\r\n\r\n".encode())
            assert client.response().status == expected


def test_places_of_a_request_authentication(folder, ending):
    signer = Signer("ES256")
    rule = {"issuer": ISSUER, "jwks": jwks(signer), "fromHeaders": [{"name": "X-Token", "prefix": "Token "}], "fromCookies": ["session"], "fromParams": ["t"],
            "outputPayloadToHeader": "X-Payload"}
    stage = Stage(folder, ending, [authentication(rule), KIM])
    token = signer.sign(claims())
    for lines, query, expected in (([f"X-Token: Token {token}"], "", 200), ([f"Cookie: a=b; session={token}"], "", 200), ([], f"?t={token}", 200), ([bearer(token)], "", 403),
                                   ([f"X-Token: Token {token}", "X-Payload: e30"], "", 401), ([f"X-Token: {token}"], "", 403), ([f"X-Token: token {token}"], "", 401),
                                   ([f"Cookie: session={token}; session=x"], "", 401), ([f"X_Token: Token {token}"], "", 400)):
        assert curl(stage, "1", f"/refund{query}", *lines)[0] == expected, (lines, query)


def test_keys_of_a_request_authentication_come_from_where_it_says(folder, ending):
    signer = Signer("RS256")
    with_keys = lambda path: [authentication({"issuer": ISSUER, "jwksUri": f"http://{KEYS}:8099{path}"}), KIM]
    stage = Stage(folder, ending, with_keys("/one"), arguments=["--jwks-retry", "300ms"])
    token = signer.sign(claims())
    assert asks(stage, token) == 401, "no key is known, so none can say that it is good"
    server = ending.enter_context(KeyServer(stage.place, KEYS, 8099, {"/one": jwks(signer), "/two": jwks(Signer("RS256"))}))
    until(lambda: asks(stage, token) == 200, "the keys")
    stage.firewall.write_policies(with_keys("/two"))
    until(lambda: "/two" in server.asked and asks(stage, token) == 401, "the other keys")
    stage.firewall.write_policies([KIM])
    until(lambda: asks(stage, token) == 403, "the end of the RequestAuthentication: nobody has a principal")
    quiet = len(server.asked)
    time.sleep(0.8)
    assert len(server.asked) == quiet, "what nobody names is not fetched"


def test_a_request_authentication_alone_looks_into_what_would_pass_unseen(folder, ending):
    signer = Signer("ES256")
    stage = Stage(folder, ending, [authentication({"issuer": ISSUER, "jwks": jwks(signer)})])
    assert asks(stage, signer.sign(claims()), "/x") == 200
    assert (asks(stage, None, "/x"), asks(stage, "a.b.c", "/x"), asks(stage, "a.b.c", "/x", "2")) == (200, 401, 401)


def test_a_new_request_authentication_counts_for_connections_that_are_open(folder, ending):
    signer = Signer("ES256")
    stage = Stage(folder, ending, [KIM])
    request = f"GET /read HTTP/1.1\r\nhost: {HOST}\r\n{bearer('a.b.c')}\r\n\r\n".encode()
    with stage.http1() as client:
        client.send(request)
        assert client.response().status == 200, "nobody looks at tokens"
        stage.firewall.reload_and_wait(lambda: stage.firewall.write_policies([authentication({"issuer": ISSUER, "jwks": jwks(signer)}), KIM]))
        client.send(request)
        assert client.response().status == 401
