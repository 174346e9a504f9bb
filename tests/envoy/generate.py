"""Random requests of one policy set, made of what its own rules name, of near misses, and of what breaks parsers."""

import ipaddress
import random
import re

import pilot
from sets import HTTP_PORTS, SOURCES, TCP_PORTS, PolicySet


class Generator:
    """Seeded by the set's name, so that a difference comes again."""

    def __init__(self, policies: PolicySet, seed: int):
        self.random = random.Random(f"{seed} {policies.name}")
        self.policies = policies
        self.named: dict[str, list[str]] = {}
        for document in policies.documents:
            if document["kind"] == "AuthorizationPolicy":
                for rule in (document.get("spec") or {}).get("rules") or []:
                    self.collect(rule or {})
        self.issuers = [rule["issuer"] for rule in policies.jwt_rules]

    def collect(self, rule: dict) -> None:
        sources = [item["source"] for item in rule.get("from") or []]
        operations = [item["operation"] for item in rule.get("to") or []]
        for name, values in (pair for item in sources + operations for pair in item.items()):
            key = name[3].lower() + name[4:] if name.startswith("not") else name
            self.named.setdefault(key, []).extend(values)
        for condition in rule.get("when") or []:
            key = {"source.principal": "principals", "source.namespace": "namespaces", "source.serviceAccount": "serviceAccounts",
                   "source.trustDomain": "trustDomains", "remote.ip": "remoteIpBlocks", "source.ip": "ipBlocks",
                   "request.auth.principal": "requestPrincipals", "request.headers[:method]": "methods", "request.headers[:path]": "targets",
                   "request.headers[:authority]": "hosts", "request.headers[host]": "hosts"}.get(condition["key"], condition["key"])
            self.named.setdefault(key, []).extend((condition.get("values") or []) + (condition.get("notValues") or []))

    # === a way: what a connection fixes ===

    def way(self, ports: tuple) -> dict:
        principal = self.identity()
        return {
            "source": self.pick(list(SOURCES)),
            "address": self.pick(list(self.policies.addresses)),
            "port": self.pick(list(ports)),
            "principal": principal,
            "sni": self.sni() if principal else None,
        }

    def identity(self) -> str | None:
        if self.random.random() < 0.2:
            return None
        choice = self.random.random()
        principals = [value for value in self.named.get("principals", []) if value != "*"]
        if principals and choice < 0.6:
            value = self.of_form(self.pick(principals), "cluster.local/ns/bar/sa/x")
            mesh = self.policies.mesh
            if self.random.random() < 0.3 and value.count("/") >= 4:
                domain = self.pick([*mesh.domains, "cluster.local", "td9", "bad.td", "std2"])
                value = "/".join([domain, *value.split("/")[1:]])
            if value.count("/") < 4:
                value = f"td1/ns/foo{value}" if value.startswith("/sa/") else f"td1/{value.lstrip('/')}"
            return f"spiffe://{self.near(value, 0.2, 'abcz-')}"
        domain = self.pick([*self.policies.mesh.domains, "cluster.local", "xsuf", "prex", "td3",
                            *(self.of_form(value, "m") for value in self.named.get("trustDomains", []))])
        namespace = self.pick(["foo", "bar", "x", "ok-1", *(self.of_form(value, "n") for value in self.named.get("namespaces", []))])
        account = self.pick(["sleep", "curl", "evil", "admin", "y"])
        for value in self.named.get("serviceAccounts", []):
            if self.random.random() < 0.3:
                namespace, account = value.split("/") if "/" in value else ("foo", value)
        name = f"spiffe://{domain}/ns/{self.near(namespace, 0.15, 'abz-')}/sa/{self.near(account, 0.15, 'abz-')}"
        return name + (self.pick(["/more", "/ns/bar/x"]) if self.random.random() < 0.05 else "")

    def sni(self) -> str | None:
        if self.random.random() < 0.2:
            return None
        values = self.named.get("connection.sni", []) or ["outbound_.8080_._.httpbin.foo.svc.cluster.local"]
        # A name has letters, digits, hyphens and dots.
        return self.near(self.of_form(self.pick(values), "a.b"), 0.2, "abz").strip(".-").replace("..", ".") or "a"

    # === a request ===

    def request(self) -> dict:
        path, query = self.path()
        return {
            "method": self.method(), "path": path, "query": query, "host": self.host(),
            "headers": self.headers(), "jwt": self.claims(),
        }

    def method(self) -> str:
        values = [*self.named.get("methods", []), "GET", "POST", "HEAD", "DELETE", "PUT", "OPTIONS", "PATCH"]
        value = self.of_form(self.pick(values), "X")
        known = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")
        # What no codec knows is tried now and then; CONNECT is a tunnel and no request.
        return value if value in known or self.random.random() < 0.1 else self.pick(list(known))

    def path(self) -> tuple[str, str | None]:
        targets = self.named.get("targets", [])
        values = [*self.named.get("paths", []), *targets]
        chance = self.random.random()
        if not values or chance < 0.12:
            path = self.pick(["/", "/x", "/other", "/a/b/c", "/admin", "/open", "/info", "/private/a"])
        else:
            path = self.filled(self.pick(values))
        path, mark, query = path.partition("?")
        query = query if mark else (self.pick(["", "x=1", "a=/admin", "?end", "end"]) if self.random.random() < 0.15 else None)
        if not path.startswith("/"):
            path = "/" + path
        if self.random.random() < 0.25:
            path = self.near(path, 1, "aZ/-")
        if self.random.random() < 0.15:
            path = self.broken(path)
        return (path if path.startswith("/") else "/" + path), query

    def filled(self, value: str) -> str:
        """A path of the form, a template's operators filled with something that fits or nearly does."""
        if "{*" not in value:
            return self.of_form(value, "/mid/dle")
        one, many = ["x", "a.b", "A-_~", "a=b", "", "a/b", "%41", "a:b@c", "7!$&'()+,"], ["", "x", "a/b", "a/b/", "/", "a=b/c"]
        return re.sub(r"\{\*\*?\}", lambda found: self.pick(many if found[0] == "{**}" else one), value)

    def broken(self, path: str) -> str:
        """What intermediaries and servers read differently."""
        path = path or "/"
        at = self.random.randrange(1, len(path) + 1)
        part = self.pick(["//", "/./", "/../", "%2f", "%2F", "%5c", "\\", ";a=b", "%61", "%7E", "%2e", "%2E%2E/", "%3B", "%00", "%zz", "%25", "%C3%A4", "+", "#f", "*"])
        return path[:at] + part + path[at:]

    def host(self) -> str:
        values = [*self.named.get("hosts", []), "httpbin.foo"]
        host = self.near(self.of_form(self.pick(values), "shop.x"), 0.15, "az")
        # No port that a policy did not write has a letter in it.
        host = re.sub(r":(?!\d+$).*", ":8443", host).strip(".") or "a"
        chance = self.random.random()
        if chance < 0.2 and ":" not in host:
            host += self.pick([":8080", ":443", ":80"])
        elif chance < 0.3:
            host = host.upper()
        elif chance < 0.35 and ":" not in host:
            host += "."
        return host

    def headers(self) -> list[list[str]]:
        made = []
        for key, values in self.named.items():
            found = re.fullmatch(r"request\.headers\[([^:].*)\]", key)
            if not found or found[1] == "host":
                continue
            for _ in range(self.pick([0, 1, 1, 1, 2])):
                name = self.pick([found[1], found[1].upper(), found[1].title()])
                made.append([name, self.near(self.of_form(self.pick(values), "v"), 0.2, "ab,")])
            if self.random.random() < 0.05:
                made.append([found[1], ""])
        if "remoteIpBlocks" in self.named:
            for _ in range(self.pick([0, 1, 1, 2])):
                chain = [self.client() for _ in range(self.pick([1, 1, 2, 3]))]
                made.append(["X-Forwarded-For", self.pick([", ", ","]).join(chain)])
        self.random.shuffle(made)
        return made

    def client(self) -> str:
        if self.random.random() < 0.1:
            return self.pick(["nobody", "", "1.2.3", "[::1]", "10.0.0.1:80"])
        net = ipaddress.ip_network(self.pick(self.named["remoteIpBlocks"]), strict=False)
        near = ["203.0.113.9", "198.51.100.7", "198.51.100.8", "127.8.0.2", "192.0.2.1", "2001:db8::7", "2001:db9::7"]
        return self.pick([str(net[min(net.num_addresses - 1, 4)]), *near])

    def claims(self) -> dict | None:
        if not self.issuers or self.random.random() < 0.2:
            return None
        subjects = ["kim", "sub-1", "root", "other"]
        for value in self.named.get("requestPrincipals", []):
            subjects.append(self.of_form(value.rpartition("/")[2], "s"))
        claims = {"iss": self.pick(self.issuers), "sub": self.near(self.pick(subjects), 0.1, "ab")}
        for key, name in (("request.auth.audiences", "aud"), ("request.auth.presenter", "azp")):
            if key in self.named:
                self.claim(claims, [name], self.named[key], scalars=name != "aud")
        for key, values in self.named.items():
            if key.startswith("request.auth.claims"):
                path = pilot.claim_path(key.removeprefix("request.auth.claims"))
                if path not in (["iss"], ["sub"], ["aud"]):
                    self.claim(claims, path, values, scalars=True)
        return claims

    def claim(self, claims: dict, path: list[str], values: list[str], scalars: bool) -> None:
        one = lambda: self.near(self.of_form(self.pick(values), "v"), 0.15, "ab ")  # noqa: E731
        many = [one() for _ in range(self.pick([0, 1, 2, 3]))]
        chance = self.random.random()
        if chance < 0.2:
            return
        value = one() if chance < 0.5 else many if chance < 0.75 else " ".join(many) if chance < 0.9 else None
        if value is None:
            value = self.pick([5, True, 5.5, {"a": "b"}, [5, "x"], [["admin"]], None]) if scalars else one()
        for name in path[:-1]:
            held = claims.setdefault(name, {})
            if not isinstance(held, dict):
                return
            claims = held
        claims[path[-1]] = value

    # === words ===

    def pick(self, of: list):
        return self.random.choice(of)

    def of_form(self, value: str, filling: str) -> str:
        """A text that the form matches."""
        if value == "*":
            return filling
        if value.startswith("*"):
            return self.pick(["", filling]) + value[1:]
        if value.endswith("*"):
            return value[:-1] + self.pick(["", filling])
        return value

    def near(self, text: str, chance: float, letters: str) -> str:
        """Now and then with one letter more, less or other, or in another case."""
        if self.random.random() >= chance or not text:
            return text
        at = self.random.randrange(len(text))
        more = text[:at] + self.pick(list(letters)) + text[at:]
        return self.pick([more, text + self.pick(list(letters)), text[:at] + text[at + 1:], text[:-1], text.swapcase()])


def ways(policies: PolicySet, seed: int, http: int, tcp: int, requests: int):
    """Connections, each with its requests; one of TCP has none."""
    generator = Generator(policies, seed)
    for _ in range(http):
        yield generator.way(HTTP_PORTS), [generator.request() for _ in range(requests)]
    for _ in range(tcp):
        yield generator.way(TCP_PORTS), None
