"""What the API server does with a definition, as far as it can be done without one: the rules of structural schemas, validation, CEL and its cost."""

from __future__ import annotations

import re
from collections.abc import Iterator

import cel
import jsonschema

KEEP = "x-kubernetes-preserve-unknown-fields"
EITHER = "x-kubernetes-int-or-string"
JUNCTORS = ("allOf", "anyOf", "oneOf")
# `JSONSchemaProps` of apiextensions.k8s.io/v1, without what it refuses ($ref, uniqueItems: true, definitions, dependencies, patternProperties).
WORDS = set(
    f"""type format title description default nullable enum pattern minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength
    minItems maxItems minProperties maxProperties required items properties additionalProperties allOf anyOf oneOf not {KEEP} {EITHER}
    x-kubernetes-validations x-kubernetes-list-type x-kubernetes-list-map-keys x-kubernetes-map-type x-kubernetes-embedded-resource""".split()
)
# What a junctor may not say: it is said outside.
SHAPE = {"type", "description", "default", "additionalProperties", "nullable", "title", KEEP, EITHER, "x-kubernetes-validations"}
REQUEST_BYTES = 3 * 1024 * 1024
COST_OF_ONE_RULE = 10_000_000
COST_OF_ALL_RULES = 100_000_000


def faults(schema: dict, at: str = "") -> Iterator[str]:
    """What is not structural."""
    for word in schema.keys() - WORDS:
        yield f"{at}: `{word}` is no word of a definition"
    kept = schema.get(KEEP) or schema.get(EITHER)
    if not at and schema.get("type") != "object":
        yield "the whole is no object"
    if not kept and schema.get("type") not in {"object", "array", "string", "integer", "number", "boolean"}:
        yield f"{at}: no type"
    if schema.get(EITHER) and ("type" in schema or schema.get("anyOf") != [{"type": "integer"}, {"type": "string"}]):
        yield f"{at}: not the form of an integer or a text"
    if schema.get("type") == "array" and not isinstance(schema.get("items"), dict):
        yield f"{at}: no items"
    if "properties" in schema and "additionalProperties" in schema:
        yield f"{at}: both properties and additionalProperties"
    if schema.get("additionalProperties") is False:
        yield f"{at}: additionalProperties is false"
    for junctor in JUNCTORS:
        if not (schema.get(EITHER) and junctor == "anyOf"):
            for branch in schema.get(junctor, []):
                yield from faults_of_a_junctor(branch, schema, f"{at}/{junctor}")
    if "not" in schema:
        yield from faults_of_a_junctor(schema["not"], schema, f"{at}/not")
    for name, below in schema.get("properties", {}).items():
        yield from faults(below, f"{at}/{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from faults(schema[word], f"{at}/{word}")


def faults_of_a_junctor(branch: dict, outside: dict, at: str) -> Iterator[str]:
    for word in branch.keys() & SHAPE:
        yield f"{at}: `{word}` in a junctor"
    for name in branch.get("properties", {}).keys() | set(branch.get("required", [])):
        if name not in outside.get("properties", {}):
            yield f"{at}: `{name}` is not among the properties outside"
    for junctor in JUNCTORS:
        for below in branch.get(junctor, []):
            yield from faults_of_a_junctor(below, outside, f"{at}/{junctor}")
    if "not" in branch:
        yield from faults_of_a_junctor(branch["not"], outside, f"{at}/not")


def fields(schema: dict, at: str = "") -> Iterator[tuple[str, dict]]:
    """Every field with its schema."""
    for name, below in schema.get("properties", {}).items():
        yield f"{at}/{name}", below
        yield from fields(below, f"{at}/{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from fields(schema[word], f"{at}[]")


def refusals(schema: dict, document: dict) -> list[str]:
    """What the API server says against a document: first the schema, then the rules."""
    said = [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(document)]
    return said or list(broken_rules(schema, document))


def broken_rules(schema: dict, value: object) -> Iterator[str]:
    for each in schema.get("x-kubernetes-validations", []):
        if cel.evaluate(each["rule"], {"self": value}) is not True:
            yield each["message"]
    if isinstance(value, dict):
        for name, below in schema.get("properties", {}).items():
            if name in value:
                yield from broken_rules(below, value[name])
    if isinstance(value, list):
        for item in value:
            yield from broken_rules(schema.get("items", {}), item)


def costs(schema: dict, times: int = 1) -> Iterator[tuple[str, int]]:
    """Each rule with its greatest cost, as the API server estimates it: what one evaluation costs, as often as it can take place in one request."""
    for each in schema.get("x-kubernetes-validations", []):
        yield each["rule"], cost(each["rule"]) * times
    for below in schema.get("properties", {}).values():
        yield from costs(below, times)
    items = schema.get("items")
    if isinstance(items, dict):
        # A list without a bound: as many as fit into a request, in however many lists.
        yield from costs(items, min(times * schema["maxItems"], most(items)) if "maxItems" in schema and times == 1 else most(items))


def cost(rule: str) -> int:
    """Rules read fields and compare them with short words: one for each name on the way and each operator. Nothing that loops is estimated here."""
    assert not re.search(r"\.(all|exists|exists_one|filter|map|matches|contains|size|startsWith|endsWith)\(|\bin\b", rule), rule
    texts = re.sub(r"'[^']*'", "", rule)
    return sum(1 + each.count(".") for each in re.findall(r"self[.\w]*", texts)) + len(re.findall(r"[!=<>]=|[!<>+*/%-]|&&|\|\|", texts))


def most(schema: dict) -> int:
    return REQUEST_BYTES // (smallest(schema) + 1)


def smallest(schema: dict) -> int:
    """Bytes of the smallest JSON, bounds on lengths left out."""
    match schema.get("type"):
        case "object":
            return 2 + sum(len(name) + 3 + smallest(schema["properties"][name]) for name in schema.get("required", []))
        case "array" | "string":
            return 2
        case "boolean":
            return 4
    return 1
