"""Paths that were judged as one thing and forwarded as another. Ids are the numbers of the list of attacks; see README.md beside this.

Every target is sent twice, once leading to what is open and once to what is not (`{w}`), over both versions and in both policy shapes. The
verdict must be the one of the canonical path, and the receiver's bytes must be that path.
"""

import itertools

import pytest

from lab.stage import SHAPES, VERSIONS, Stage, passes, shape_policy


@pytest.fixture(scope="module")
def stages(module_folder, module_ending):
    return {shape: Stage(module_folder / shape, module_ending, shape_policy(shape)) for shape in SHAPES}


def each(*cases):
    """Cases × versions × shapes × words; a case is (target, canonical target or None for a refusal)."""
    rows = []
    for (target, canonical), version, shape, word in itertools.product(cases, VERSIONS, SHAPES, ("open", "admin")):
        filled = canonical.replace("{w}", word) if canonical is not None else None
        rows.append(pytest.param(version, shape, target.replace("{w}", word), filled, id=f"h{version}-{shape}-{ascii(target)[1:-1]}-{word}"))
    return pytest.mark.parametrize(("version", "shape", "target", "canonical"), rows)


def judge(stage: Stage, version: str, shape: str, target: str, canonical: str | None, method: str = "GET"):
    outcome = stage.send(version, method, target)
    if canonical is None:
        assert outcome.verdict == "reject", outcome
        assert outcome.bytes == 0 and not outcome.requests
        return outcome
    path = canonical.partition("?")[0]
    wanted = "allow" if passes(shape, path) else "deny"
    assert outcome.verdict == wanted, outcome
    if wanted == "allow":
        assert [request.target for request in outcome.requests] == [canonical], "the receiver must get the bytes that were judged"
        # Denials are collapsed under a flood, and this is one: only what passed surely has its line.
        assert [line["url.path"] for line in stage.logged(outcome)] == [path], "what is logged is what was judged"
    else:
        assert outcome.bytes == 0 and not outcome.requests
    return outcome


@each(("/public/../{w}", "/{w}"), ("/public/%2e%2e/{w}", "/{w}"), ("/public/.%2e/{w}", "/{w}"), ("/public/%2E./{w}", "/{w}"), ("/./{w}", "/{w}"),
      ("/%2e/{w}", "/{w}"), ("/public/../../{w}", None), ("/{w}/public/..", "/{w}/"))
def test_attack_01_dot_segments(stages, version, shape, target, canonical):
    judge(stages[shape], version, shape, target, canonical)


@each(("/a%2F{w}", None), ("/a%2f{w}", None), ("/a%5C{w}", None), ("/a%5c{w}", None), ("/a\\{w}", None), ("/public/..%2f{w}", None), ("/public/..\\{w}", None))
def test_attack_02_escaped_slashes(stages, version, shape, target, canonical):
    judge(stages[shape], version, shape, target, canonical)


@each(("//{w}", "/{w}"), ("///{w}", "/{w}"), ("/a//{w}", "/a/{w}"), ("/x//../{w}", None), ("/public/..//{w}", None))
def test_attack_03_repeated_slashes(stages, version, shape, target, canonical):
    judge(stages[shape], version, shape, target, canonical)


@each(("/{w}%23foo", "/{w}%23foo"))
def test_attack_04_escaped_fragment_is_data(stages, version, shape, target, canonical):
    judge(stages[shape], version, shape, target, canonical)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("word", ["open", "admin"])
def test_attack_04_raw_fragment(stages, shape, word):
    judge(stages[shape], "1", shape, f"/{word}#foo", None)
    outcome = stages[shape].send("2", "GET", f"/{word}#foo")
    if outcome.verdict == "allow":
        assert passes(shape, f"/{word}") and [request.target for request in outcome.requests] == [f"/{word}"], outcome
    else:
        assert outcome.bytes == 0 and outcome.verdict == ("reject" if outcome.status == 400 else "deny"), outcome
        assert outcome.status == 400 or not passes(shape, f"/{word}")


@each(("/{w}?x", "/{w}?x"), ("/{w}?/../admin", "/{w}?/../admin"), ("/{w}?a=%2F%2e", "/{w}?a=%2F%2e"), ("/{w}?", "/{w}?"))
def test_attack_05_query_takes_no_part(stages, version, shape, target, canonical):
    judge(stages[shape], version, shape, target, canonical)


@each(("/user/..;foo=bar/{w}", None), ("/.;/{w}", None), ("/;/{w}", None), ("/user/..%3Bfoo/{w}", None))
def test_attack_06_dot_segments_with_parameters(stages, version, shape, target, canonical):
    judge(stages[shape], version, shape, target, canonical)


@each(("/{w};x=y/list", None), ("/{w};/list", None), ("/{w}/list;jsessionid=1", None))
def test_attack_07_path_parameters(stages, version, shape, target, canonical):
    judge(stages[shape], version, shape, target, canonical)


@each(("/public/%7e%2d%5f/%61", "/public/~-_/a"), ("/%61dmin/x", "/admin/x"), ("/%6fpen/x", "/open/x"), ("/public/%c3", None), ("/public/a%20b", "/public/a%20b"),
      ("/public/%3a%40", "/public/%3A%40"))
def test_attack_08_one_canonicaliser(stages, version, shape, target, canonical):
    judge(stages[shape], version, shape, target, canonical)


@pytest.mark.parametrize("version", VERSIONS)
def test_attack_10_path_without_slash(stages, version):
    for shape in SHAPES:
        outcome = stages[shape].send(version, "POST", "shop.v1.Orders/Get", [("content-type", "application/grpc"), ("te", "trailers")])
        assert outcome.verdict == "reject" and outcome.bytes == 0, outcome


@each(("//{w}/x", "/{w}/x"))
def test_attack_11_double_slash_is_no_authority(stages, version, shape, target, canonical):
    judge(stages[shape], version, shape, target, canonical)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("word", ["open", "admin"])
def test_attack_11_absolute_form(stages, shape, word):
    stage = stages[shape]
    for authority in ("evil", "orders.shop.svc.cluster.local:9999", "a@orders.shop.svc.cluster.local"):
        outcome = stage.send("1", "GET", f"http://{authority}/{word}")
        assert outcome.verdict == "reject" and outcome.bytes == 0, (authority, outcome)
    outcome = stage.send("1", "GET", f"http://orders.shop.svc.cluster.local/{word}")
    assert outcome.verdict == ("allow" if passes(shape, f"/{word}") else "deny"), outcome
    if outcome.verdict == "allow":
        (request,) = outcome.requests
        assert request.path in (f"/{word}", f"http://orders.shop.svc.cluster.local/{word}") and request.host == "orders.shop.svc.cluster.local"


@each(("/{w}/a%3Fb", "/{w}/a%3Fb"), ("/{w}/a=b&c,d!$'()*+@:~", "/{w}/a=b&c,d!$'()*+@:~"), ("/{w}/%25?q=%3F&r=/?", "/{w}/%25?q=%3F&r=/?"), ("/{w}/a.b..c", "/{w}/a.b..c"),
      ("/{w}/...", "/{w}/..."))
def test_attack_13_canonical_input_is_unchanged(stages, version, shape, target, canonical):
    judge(stages[shape], version, shape, target, canonical)


@each(("/%252e%252e%252f{w}", "/%252e%252e%252f{w}"), ("/public/%252e%252e/{w}", "/public/%252e%252e/{w}"))
def test_attack_14_decoded_once_only(stages, version, shape, target, canonical):
    judge(stages[shape], version, shape, target, canonical)


@each(("/{w}%c0%af", None), ("/{w}%00", None), ("/{w}%0d%0aX", None), ("/{w}/\x80", None), ("/{w}/\xff", None), ("/{w}%7f", None), ("/{w}%", None), ("/{w}%4", None), ("/{w}%zz", None),
      ("/{w}%u002e", None))
def test_attack_15_bytes_that_are_no_path(stages, version, shape, target, canonical):
    judge(stages[shape], version, shape, target, canonical)


@each(("/ADMIN", "/ADMIN"), ("/Open", "/Open"), ("/{w}/\xe2\x84\xaa", None))
def test_attack_16_case_is_kept(stages, version, shape, target, canonical):
    judge(stages[shape], version, shape, target, canonical)


@each(("/{w}x", "/{w}x"), ("/{w}/x", "/{w}/x"), ("/{w}.x", "/{w}.x"), ("/{w}", "/{w}"))
def test_attack_17_prefixes_end_at_segments(stages, version, shape, target, canonical):
    judge(stages[shape], version, shape, target, canonical)


@each(("/{w}/", "/{w}/"), ("/{w}/.", "/{w}/"), ("/{w}/x/..", "/{w}/"))
def test_attack_18_trailing_slash_and_dot(stages, version, shape, target, canonical):
    judge(stages[shape], version, shape, target, canonical)


# === exact paths, templates, opt-ins: policies of their own ===


@pytest.fixture(scope="module")
def exact(module_folder, module_ending):
    from lab.firewall import policy

    web = [{"serviceAccount": "web"}]
    return Stage(module_folder / "exact", module_ending, [policy("orders", "orders", [
        {"name": "one", "from": web, "http": [{"paths": ["/one", "/user/{id}/profile", "regex:/r[0-9]+"]}]},
        {"name": "rest", "from": web, "http": [{"paths": ["/two/**", "/three", "/three/"]}]},
        {"name": "never", "action": "Deny", "from": [{"any": True}], "ports": ["http"], "http": [{"paths": ["/two/secret", "/three", "/two/{x}/key"]}]},
    ])])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("target", "verdict"), [
    ("/one", "allow"), ("/one?x", "allow"), ("/one/", "deny"), ("/one/.", "deny"), ("/onex", "deny"), ("/two/secret", "deny"), ("/two/secret/", "deny"),
    ("/two/secret/.", "deny"), ("/two/secret?x", "deny"), ("/two/secret/more", "allow"), ("/three", "deny"), ("/three/", "deny"), ("/r12", "allow"), ("/r12x", "deny"),
    ("/xr12", "deny"), ("/r12/", "deny"), ("/r12?x=r", "allow"),
])
def test_attack_05_and_18_exact_paths(exact, version, target, verdict):
    outcome = exact.send(version, "GET", target)
    assert outcome.verdict == verdict and bool(outcome.requests) == (verdict == "allow"), outcome


@pytest.mark.parametrize("version", VERSIONS)
def test_attack_09_every_pchar_in_a_template(exact, version):
    for character in "abcxyzABCXYZ0123456789-._~!$&'()*+,=:@":
        if character == ".":
            continue
        allowed = exact.send(version, "GET", f"/user/{character}/profile")
        assert allowed.verdict == "allow" and [request.target for request in allowed.requests] == [f"/user/{character}/profile"], (character, allowed)
        denied = exact.send(version, "GET", f"/two/{character}/key")
        assert denied.verdict == "deny" and denied.bytes == 0, (character, denied)
    for text in ("%20", "%3A", "%25", "%40", "*", "**", "{id}", "a.b"):
        target = text.replace("{", "%7B").replace("}", "%7D")
        assert exact.send(version, "GET", f"/user/{target}/profile").verdict == "allow", text
        assert exact.send(version, "GET", f"/two/{target}/key").verdict == "deny", text
    assert exact.send(version, "GET", "/user//profile").verdict == "deny"


@pytest.fixture(scope="module")
def opted(module_folder, module_ending):
    made = {}
    for word in ("Decode", "Keep"):
        documents = shape_policy("D")
        documents[0]["spec"]["httpOptions"] = [{"ports": ["http"], "escapedSlash": word}]
        made[word] = Stage(module_folder / word, module_ending, documents)
    return made


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("word", "target", "canonical"), [
    ("Decode", "/a%2Fadmin", "/a/admin"), ("Decode", "/a%2fadmin", "/a/admin"), ("Decode", "/a%2Fopen", "/a/open"), ("Decode", "/x/..%2fadmin", "/admin"),
    ("Keep", "/a%2fadmin", "/a%2Fadmin"), ("Keep", "/a%2Fopen", "/a%2Fopen"),
])
def test_attack_02_opt_ins_are_judged_and_forwarded_alike(opted, version, word, target, canonical):
    judge(opted[word], version, "D", target, canonical)
