"""What `kubectl kustomize` makes of the kustomizations of deploy/, for machines without kubectl: the part of the language that they use, and an error for
any other. Where there is a kubectl, the two are compared."""

from __future__ import annotations

import json
from pathlib import Path

import yaml


def render(folder: Path) -> list[dict]:
    """Every object, those of bases first."""
    text = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = set(text) - {"apiVersion", "kind", "resources", "patches"}
    assert not unknown, f"{folder}: {unknown} is not known here"
    objects = []
    for name in text["resources"]:
        path = folder / name
        if path.is_dir():
            objects += render(path.resolve())
        else:
            assert folder.resolve() in path.resolve().parents, f"{path}: kustomize takes no file from outside its folder"
            objects += [json.loads(path.read_text())] if path.suffix == ".json" else list(yaml.safe_load_all(path.read_text()))
    for patch in text.get("patches", []):
        targets = [each for each in objects if is_target(each, patch["target"])]
        assert targets, f"{folder}: nothing is {patch['target']}"
        for target in targets:
            for step in yaml.safe_load(patch["patch"]):
                apply(target, step)
    return objects


def is_target(each: dict, target: dict) -> bool:
    group = each["apiVersion"].partition("/")[0] if "/" in each["apiVersion"] else ""
    have = {"kind": each["kind"], "name": each["metadata"]["name"], "group": group}
    return all(have[key] == value for key, value in target.items())


def apply(document: dict, step: dict) -> None:
    """One operation of RFC 6902, on members and items that have plain names."""
    *way, last = step["path"].strip("/").split("/")
    for part in way:
        document = document[int(part) if isinstance(document, list) else part]
    last = int(last) if isinstance(document, list) else last
    match step["op"]:
        case "test":
            assert document[last] == step["value"], step
        case "remove":
            del document[last]
        case "add" if isinstance(document, dict):
            document[last] = step["value"]
        case other:
            raise AssertionError(f"`{other}` is not known here")
