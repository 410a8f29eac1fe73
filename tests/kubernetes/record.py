"""Asks a Kubernetes API server what it makes of the objects in objects.yaml, and keeps its answers in answers.jsonl.

    record.py --programs FOLDER           starts the API server that `build.sh FOLDER` made, and asks it
    record.py --url URL --token TOKEN     asks one that runs; its namespace `default` is written to
    record.py --check                     asks nobody: whether the answers are those of today's table
"""

import argparse
import json
import sys
import tempfile

import apiserver
import table

ANSWERS = table.FOLDER / "answers.jsonl"


def is_established(definition):
    conditions = definition.get("status", {}).get("conditions", [])
    return {"Established": "True"}.items() <= {each["type"]: each["status"] for each in conditions}.items()


def judge(server, request):
    """What the server says to one case."""
    body = request.get("text")
    if body is None and "body" in request:
        body = json.dumps(request["body"])
    first = request.get("first")
    if first:
        server.until(f"{first['at']} is gone", lambda: server.ask("GET", first["at"])[0] == 404)
        code, made = server.ask("POST", first["path"], json.dumps(first["body"]))
        assert code == 201, (first, made)
        if made["kind"] == "CustomResourceDefinition":
            # What may change of a definition depends on whether it is in force.
            server.until(f"{first['at']} is in force", lambda: is_established(server.ask("GET", first["at"])[1]))
    if "change" in request:
        code, current = server.ask("GET", first["at"])
        assert code == 200, current
        body = json.dumps(table.apply(current, request["change"]))
    code, answer = server.ask(request["method"], request["path"], body, request["type"])
    if first:
        server.ask("DELETE", first["at"] + "?gracePeriodSeconds=0")
        # Controllers that would take their finalizers away do not run.
        server.ask("PATCH", first["at"], '{"metadata": {"finalizers": null}}', table.MEDIA["merge"])
    if code < 300:
        return {"code": code}
    if isinstance(answer, str):
        # Not all refusals are a `metav1.Status`.
        return {"code": code, "reason": "", "fields": [], "message": answer.strip()}
    details = answer.get("details") or {}
    fields = sorted({cause.get("field", "") for cause in details.get("causes", [])})
    return {"code": code, "reason": answer.get("reason", ""), "fields": fields, "message": answer["message"]}


def record(server):
    setup, cases = table.read()
    for made in setup:
        code, answer = server.ask("POST", made["at"], json.dumps(made["object"]))
        assert code in (201, 409), answer
        server.until(made["await"], lambda: server.ask("GET", made["await"])[0] == 200)
    with ANSWERS.open("w") as answers:
        for made in setup:
            answers.write(json.dumps({"setup": made}) + "\n")
        for case in cases:
            answers.write(json.dumps({**case, "answer": judge(server, case["request"])}, ensure_ascii=False) + "\n")
    print(f"{len(cases)} answers in {ANSWERS}")


def check():
    """Says what of the table has no answer of its own."""
    setup, cases = table.read()
    lines = [json.loads(line) for line in ANSWERS.read_text().splitlines()]
    answered = [{key: value for key, value in line.items() if key != "answer"} for line in lines]
    asked = [{"setup": made} for made in setup] + cases
    missing = [case for case in asked if case not in answered] + [case for case in answered if case not in asked]
    for case in missing:
        print(f"objects.yaml and answers.jsonl differ: {case.get('case', case)}", file=sys.stderr)
    return not missing


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs")
    parser.add_argument("--url")
    parser.add_argument("--token", default="")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    if given.check:
        sys.exit(0 if check() else 1)
    if given.url:
        record(apiserver.Server(given.url, given.token))
    elif given.programs:
        with tempfile.TemporaryDirectory() as folder, apiserver.running(given.programs, folder) as server:
            record(server)
    else:
        parser.error("one of --programs, --url and --check is needed")


if __name__ == "__main__":
    main()
