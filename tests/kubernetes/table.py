"""Reads objects.yaml: every case as the requests that it is made of."""

import copy
import pathlib

import yaml

FOLDER = pathlib.Path(__file__).parent
MEDIA = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


def operations(change):
    """`set` and `remove` of a case as a JSON patch (RFC 6902)."""
    sets = [
        # "add" at the place of an item would shift the ones behind it.
        {"op": "replace" if pointer.rpartition("/")[2].isdigit() else "add", "path": pointer, "value": value}
        for pointer, value in change.get("set", {}).items()
    ]
    return sets + [{"op": "remove", "path": pointer} for pointer in change.get("remove", [])]


def apply(value, patch):
    """The value after a JSON patch of the operations above."""
    value = copy.deepcopy(value)
    for step in patch:
        *parents, last = [
            part.replace("~1", "/").replace("~0", "~") for part in step["path"].lstrip("/").split("/")
        ]
        target = value
        for part in parents:
            target = target[int(part) if isinstance(target, list) else part]
        if step["op"] == "remove":
            del target[int(last) if isinstance(target, list) else last]
        elif isinstance(target, list):
            if last == "-":
                target.append(step["value"])
            else:
                target[int(last)] = step["value"]
        else:
            target[last] = step["value"]
    return value


def with_query(path, case):
    query = case.get("query", "")
    parts = [query] if query else []
    if "dryRun=" not in query and not case.get("good"):
        parts.append("dryRun=All")
    return f"{path}?{'&'.join(parts)}"


def requests(case, objects):
    """A case as data: what is made first, and the request that is judged."""
    base = objects[case["of"]]
    collection = case.get("in", base["at"])
    made = apply(base["object"], operations(case))
    if not {"then", "patch", "post"} & case.keys():
        body = {"text": case["text"]} if "text" in case else {"body": made}
        return {"method": "POST", "path": with_query(collection, case), "type": "application/json", **body}
    where = f"{collection}/{made['metadata']['name']}"
    judged = {"path": with_query(where + case.get("at", ""), case)}
    if not case.get("missing"):
        judged["first"] = {"path": collection, "body": made, "at": where}
    if "then" in case:
        judged |= {"method": "PUT", "type": "application/json", "change": operations(case["then"])}
        if case.get("missing"):
            judged["body"] = apply(made, judged.pop("change"))
        return judged
    if "post" in case:
        return judged | {"method": "POST", "type": "application/json", "body": case["post"]}
    patch = case["patch"]
    body = {"text": patch["text"]} if "text" in patch else {"body": patch["body"]}
    return judged | {"method": "PATCH", "type": MEDIA.get(patch["type"], patch["type"]), **body}


def read():
    """What is made first, and the cases in their order."""
    table = yaml.safe_load((FOLDER / "objects.yaml").read_text())
    names = [case["case"] for case in table["cases"]]
    doubled = {name for name in names if names.count(name) > 1}
    assert not doubled, f"cases of one name: {doubled}"
    cases = []
    for case in table["cases"]:
        differs = {"differs": case["differs"]} if "differs" in case else {}
        cases.append({"case": case["case"], "request": requests(case, table["objects"]), **differs})
    return table["setup"], cases
