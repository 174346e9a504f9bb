"""Where Eastwall and Envoy may differ. Each class has a name here and, under the same name, its reason in
`docs/dialects.md`; a difference that is in no class is a failure."""

import re
from urllib.parse import unquote_to_bytes

# Class `refused`: what has no one meaning is refused before any rule is asked. By refusal, what of the request must be
# there for it.
REFUSALS = {
    "above-root": r"/(\.|%2[eE]){2}",
    "backslash": r"\\|%5[cC]",
    "escaped-control": r"%[01][0-9a-fA-F]|%7[fF]",
    "escaped-non-ascii": r"%[89a-fA-F][0-9a-fA-F]",
    "escaped-slash": r"%2[fF]",
    "fragment": r"#",
    "malformed-escape": r"%(?![0-9a-fA-F]{2})",
    "path-parameters": r";|%3[bB]",
    "slashes-with-dots": r"//.*|.*//",
    "malformed-host": None,
}

# Classes of requests that Eastwall makes canonical: it judges, logs and forwards the canonical one, so the verdict must
# be the one that Envoy gives to that.
CANONICAL = ("canonical-path", "canonical-host", "canonical-server-name", "repeated-header")

# Classes that compare two more questions; see `test_envoy.explanation`.
OTHERS = ("unknown-method", "connection-rules", "template-characters")

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")


def refused(request: dict, refusal: str) -> bool:
    """Whether the refusal is one that the class explains."""
    if refusal == "malformed-host":
        return not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?(:\d{1,5})?", request["host"])
    pattern = REFUSALS.get(refusal)
    return pattern is not None and re.search(pattern, request["path"]) is not None


def canonical(way: dict, request: dict) -> tuple[dict, dict, list[str]]:
    """The request as Eastwall forwards it, and the classes that say what became another."""
    classes = []
    made = {**request, "path": canonical_path(request["path"]), "host": canonical_host(request["host"]), "headers": joined(request["headers"])}
    for name, member in (("canonical-path", "path"), ("canonical-host", "host"), ("repeated-header", "headers")):
        if made[member] != request[member]:
            classes.append(name)
    told = {**way, "sni": way["sni"].lower() if way["sni"] else None}
    if told != way:
        classes.append("canonical-server-name")
    return told, made, classes


def canonical_path(path: str) -> str:
    """Unreserved octets decoded once, slashes merged, dot segments resolved."""
    if not path.startswith("/"):
        return path
    path = re.sub(r"%[0-9a-fA-F]{2}", lambda found: plain(found[0]), path)
    segments: list[str] = []
    parts = re.sub("/+", "/", path).split("/")[1:]
    for index, part in enumerate(parts):
        if part == "..":
            segments = segments[:-1]
        if part not in (".", ".."):
            segments.append(part)
        elif index == len(parts) - 1:
            segments.append("")
    return "/" + "/".join(segments)


def plain(escape: str) -> str:
    letter = unquote_to_bytes(escape).decode("latin-1")
    return letter if re.fullmatch(r"[A-Za-z0-9\-._~]", letter) else escape.upper()


def canonical_host(host: str) -> str:
    name, colon, port = host.partition(":")
    return name.lower().removesuffix(".") + colon + port


def joined(headers: list[list[str]]) -> list[list[str]]:
    """Lines of one name as one, in the place of the first."""
    made: dict[str, list[str]] = {}
    for name, value in headers:
        if name.lower() in made:
            made[name.lower()][1] += f",{value.strip()}"
        else:
            made[name.lower()] = [name, value]
    return list(made.values())
