"""What Istio's control plane makes of policies: the RBAC rules that a sidecar's Envoy gets. Written from Istio's own
description and code, and independent of Eastwall's reader: the test is worth nothing otherwise."""

import ipaddress
import re
from dataclasses import dataclass, field

ROOT_NAMESPACE = "istio-system"
HTTP_ONLY = "HTTP only"


@dataclass
class Mesh:
    """Mesh options that the rules depend on."""

    trust_domain: str = "cluster.local"
    aliases: list[str] = field(default_factory=list)

    @property
    def domains(self) -> list[str]:
        return [self.trust_domain, *self.aliases]


class Dropped(Exception):
    """A value that has no meaning on this filter chain."""


# === which documents apply ===


def selects(document: dict, namespace: str, labels: dict) -> bool:
    """Whether a sidecar of this workload takes notice of the document."""
    spec = document.get("spec") or {}
    if spec.get("targetRef") or spec.get("targetRefs"):
        return False
    own = document["metadata"].get("namespace", "default")
    wanted = ((spec.get("selector") or {}).get("matchLabels")) or {}
    return own in (namespace, ROOT_NAMESPACE) and all(labels.get(key) == value for key, value in wanted.items())


def is_dry_run(document: dict) -> bool:
    annotation = (document["metadata"].get("annotations") or {}).get("istio.io/dry-run")
    return annotation in ("1", "t", "T", "TRUE", "true", "True")


def filters(documents: list[dict], mesh: Mesh, tcp: bool) -> list[dict]:
    """The `rules` of each filter, in order: DENY, then ALLOW. Dry runs never act."""
    made = []
    for action in ("DENY", "ALLOW"):
        policies = [
            document for document in documents
            if document["kind"] == "AuthorizationPolicy"
            and (document.get("spec") or {}).get("action", "ALLOW") == action
            and not is_dry_run(document)
        ]
        if policies:
            made.append(rules(policies, action, mesh, tcp))
    return made


NEVER = {
    "permissions": [{"notRule": {"any": True}}],
    "principals": [{"notId": {"any": True}}],
}


def rules(policies: list[dict], action: str, mesh: Mesh, tcp: bool) -> dict:
    """One RBAC message of policies with one action."""
    made = {}
    for document in policies:
        name, namespace = document["metadata"]["name"], document["metadata"].get("namespace", "default")
        listed = (document.get("spec") or {}).get("rules") or []
        for index, rule in enumerate(listed):
            policy = Rule(rule, namespace, mesh, tcp, lenient=action != "ALLOW").policy()
            if policy is not None:
                made[f"ns[{namespace}]-policy[{name}]-rule[{index}]"] = policy
        if not listed:
            made[f"ns[{namespace}]-policy[{name}]-rule[0]"] = NEVER
    return ({} if action == "ALLOW" else {"action": action}) | {"policies": made}


# === one rule ===


class Rule:
    """One rule: permissions (what is asked for) and principals (who asks), each an OR of ANDs."""

    def __init__(self, rule: dict, namespace: str, mesh: Mesh, tcp: bool, lenient: bool):
        self.rule, self.namespace, self.mesh, self.tcp = rule or {}, namespace, mesh, tcp
        # A DENY forgets a value that it cannot ask on TCP, and grows; an ALLOW rule is no rule then.
        self.lenient = lenient

    def policy(self) -> dict | None:
        try:
            asked, who = self.conditions()
            operations = [item["operation"] for item in self.rule.get("to") or []] or [{}]
            sources = [item["source"] for item in self.rule.get("from") or []] or [{}]
            return {
                "permissions": [conjunction("andRules", "rules", self.operation(each) + asked) for each in operations],
                "principals": [conjunction("andIds", "ids", self.source(each) + who) for each in sources],
            }
        except Dropped:
            return None

    def conditions(self) -> tuple[list, list]:
        asked, who = [], []
        for condition in self.rule.get("when") or []:
            key, pair = condition["key"], (condition.get("values"), condition.get("notValues"))
            if key in ("destination.ip", "destination.port", "connection.sni"):
                of = {"destination.ip": self.destination_ip, "destination.port": self.port, "connection.sni": self.sni}
                asked += self.permission(of[key], *pair)
            elif key == "request.auth.principal":
                who += self.together(self.request_principals, *pair)
            elif key in ("request.auth.audiences", "request.auth.presenter"):
                claim = {"request.auth.audiences": "aud", "request.auth.presenter": "azp"}[key]
                who += self.together(lambda values, claim=claim: self.claim([claim], values), *pair)
            elif key.startswith("request.auth.claims"):
                path = claim_path(key.removeprefix("request.auth.claims"))
                who += self.together(lambda values, path=path: self.claim(path, values), *pair)
            elif key.startswith("request.headers"):
                name = key.removeprefix("request.headers")[1:-1]
                who += self.principal(lambda value, name=name: self.header(name, value), *pair)
            else:
                of = {
                    "source.ip": self.source_ip, "remote.ip": self.remote_ip, "source.namespace": self.of_namespace,
                    "source.serviceAccount": self.of_account, "source.trustDomain": self.of_domain,
                    "source.principal": self.of_principal,
                }
                who += self.principal(of[key], *self.migrated(key, pair))
        return asked, who

    def operation(self, operation: dict) -> list:
        made = []
        for name, of in (("hosts", self.host), ("methods", self.method), ("paths", self.path), ("ports", self.port)):
            made += self.permission(of, *both(operation, name))
        return made

    def source(self, source: dict) -> list:
        made = self.principal(self.of_principal, *self.migrated("source.principal", both(source, "principals")))
        made += self.together(self.request_principals, *both(source, "requestPrincipals"))
        made += self.principal(self.of_account, *both(source, "serviceAccounts"))
        made += self.principal(self.of_domain, *self.migrated("source.trustDomain", both(source, "trustDomains")))
        made += self.principal(self.of_namespace, *both(source, "namespaces"))
        made += self.principal(self.remote_ip, *both(source, "remoteIpBlocks"))
        return made + self.principal(self.source_ip, *both(source, "ipBlocks"))

    # --- lists: a value OR the next, `not` around all of a negated list ---

    def permission(self, of, values, not_values) -> list:
        return self.lists(of, values, not_values, "orRules", "rules", "notRule")

    def principal(self, of, values, not_values) -> list:
        return self.lists(of, values, not_values, "orIds", "ids", "notId")

    def lists(self, of, values, not_values, either, members, negation) -> list:
        made = []
        for listed, negated in ((values, False), (not_values, True)):
            asked = [each for each in (self.tolerated(of, value) for value in listed or []) if each is not None]
            if asked:
                any_of = {either: {members: asked}}
                made.append({negation: any_of} if negated else any_of)
        return made

    def together(self, of, values, not_values) -> list:
        """Lists that become one matcher."""
        made = []
        for listed, negated in ((values, False), (not_values, True)):
            asked = self.tolerated(of, listed) if listed else None
            if asked is not None:
                made.append({"notId": asked} if negated else asked)
        return made

    def tolerated(self, of, value):
        try:
            return of(value)
        except Dropped:
            if self.lenient:
                return None
            raise

    def only_http(self):
        if self.tcp:
            raise Dropped

    # --- single values ---

    def host(self, value):
        self.only_http()
        return {"header": header(":authority", value, ignore_case=True)}

    def method(self, value):
        self.only_http()
        return {"header": header(":method", value)}

    def path(self, value):
        self.only_http()
        if "{*}" in value or "{**}" in value:
            template = value.replace("{**}", "**").replace("{*}", "*")
            kind = "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"
            return {"uriTemplate": {"name": "uri-template", "typedConfig": {"@type": kind, "pathTemplate": template}}}
        return {"urlPath": {"path": string(value)}}

    def port(self, value):
        return {"destinationPort": int(value)}

    def destination_ip(self, value):
        return {"destinationIp": network(value)}

    def sni(self, value):
        return {"requestedServerName": string(value)}

    def source_ip(self, value):
        return {"directRemoteIp": network(value)}

    def remote_ip(self, value):
        return {"remoteIp": network(value)}

    def header(self, name, value):
        self.only_http()
        return {"header": header(name, value)}

    def of_principal(self, value):
        if value == "*":
            return authenticated({"safeRegex": {"regex": ".+"}})
        if value.startswith("*"):
            return authenticated({"safeRegex": {"regex": f"spiffe://.*{quoted(value[1:])}"}})
        if value.endswith("*"):
            return authenticated({"prefix": f"spiffe://{value[:-1]}"})
        return authenticated({"exact": f"spiffe://{value}"})

    def of_namespace(self, value):
        return authenticated({"safeRegex": {"regex": f".*/ns/{'.*'.join(map(quoted, value.split('*')))}/.*"}})

    def of_account(self, value):
        namespace, account = value.split("/", 1) if "/" in value else (self.namespace, value)
        return authenticated({"safeRegex": {"regex": f"spiffe://.+/ns/{quoted(namespace)}/(.+/|)sa/{quoted(account)}(/.+)?"}})

    def of_domain(self, value):
        if value == "*":
            return authenticated({"prefix": "spiffe://"})
        if "*" not in value:
            return authenticated({"prefix": f"spiffe://{value}/"})
        head, tail = value.split("*", 1)
        return authenticated({"safeRegex": {"regex": f"spiffe://{quoted(head)}[^/]*{quoted(tail)}/.*"}})

    def request_principals(self, values):
        self.only_http()
        made = []
        for value in values:
            issuer, slash, subject = value.rpartition("/")
            issuer = issuer if slash else value
            if value == "*":
                issuer, subject = ANY, ANY
            elif value.startswith("*"):
                if slash:
                    issuer = ANY if issuer == "*" else {"suffix": issuer.removeprefix("*")}
                    subject = {"exact": subject}
                else:
                    issuer, subject = ANY, {"suffix": value[1:]}
            elif value.endswith("*"):
                if slash:
                    issuer, subject = {"exact": issuer}, ANY if subject == "*" else {"prefix": subject[:-1]}
                else:
                    issuer, subject = {"prefix": value[:-1]}, ANY
            else:
                issuer, subject = {"exact": issuer}, {"exact": subject if slash else ""}
            made.append({"andIds": {"ids": [metadata(["iss"], {"stringMatch": issuer}), metadata(["sub"], {"stringMatch": subject})]}})
        return made[0] if len(made) == 1 else {"orIds": {"ids": made}}

    def claim(self, path, values):
        self.only_http()
        matchers = [{"stringMatch": string(value)} for value in values]
        one = matchers[0] if len(matchers) == 1 else {"orMatch": {"valueMatchers": matchers}}
        return metadata(path, {"orMatch": {"valueMatchers": [{"listMatch": {"oneOf": one}}, one]}})

    # --- trust domains ---

    def migrated(self, key, pair):
        if key == "source.principal":
            return [self.with_aliases(values) for values in pair]
        if key == "source.trustDomain":
            return [unique(d for value in values or [] for d in self.same_domains(value)) for values in pair]
        return pair

    def same_domains(self, value):
        return self.mesh.domains if value in self.mesh.domains else [value]

    def with_aliases(self, values):
        made = []
        for value in values or []:
            parts = value.split("/")
            domain = parts[0]
            known = domain == "cluster.local" or any(self.stands_for(domain, own) for own in self.mesh.domains)
            if len(parts) != 5 or domain == "*" or not known:
                made.append(value)
                continue
            for own in self.mesh.domains:
                keeps = domain.startswith("*") and own.endswith(domain[1:])
                made.append(value if keeps else "/".join([own, *parts[1:]]))
        return unique(made)

    @staticmethod
    def stands_for(domain, own):
        return (
            domain == own
            or (domain.startswith("*") and own.endswith(domain[1:]))
            or (domain.endswith("*") and own.startswith(domain[:-1]))
        )


# === matchers ===

ANY = {"safeRegex": {"regex": ".+"}}


def both(item: dict, name: str):
    return item.get(name), item.get("not" + name[0].upper() + name[1:])


def conjunction(kind: str, members: str, parts: list) -> dict:
    return {kind: {members: parts or [{"any": True}]}}


def string(value: str) -> dict:
    if value == "*":
        return dict(ANY)
    if value.startswith("*"):
        return {"suffix": value[1:]}
    if value.endswith("*"):
        return {"prefix": value[:-1]}
    return {"exact": value}


def header(name: str, value: str, ignore_case: bool = False) -> dict:
    if value == "*":
        return {"name": name, "presentMatch": True}
    return {"name": name, "stringMatch": string(value) | ({"ignoreCase": True} if ignore_case else {})}


def authenticated(name: dict) -> dict:
    return {"authenticated": {"principalName": name}}


def metadata(path: list[str], value: dict) -> dict:
    keys = [{"key": key} for key in ["payload", *path]]
    return {"metadata": {"filter": "envoy.filters.http.jwt_authn", "path": keys, "value": value}}


def network(value: str) -> dict:
    net = ipaddress.ip_network(value, strict=False)
    return {"addressPrefix": str(net.network_address), "prefixLen": net.prefixlen}


def claim_path(written: str) -> list[str]:
    names = re.findall(r"\[([^\[\]]*)\]", written)
    return names if "".join(f"[{name}]" for name in names) == written else [written[1:-1]]


def quoted(text: str) -> str:
    """As Go's regexp.QuoteMeta."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)


def unique(values) -> list:
    return list(dict.fromkeys(values))
