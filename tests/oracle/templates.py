#!/usr/bin/env python3
"""Holds `muster template` to what transformers and jinja2 rendered.

    templates.py --muster BIN --oracle DIR --cache DIR [--templates DIR] [--hub FILE]

The oracle's 5_chat_templates names templates of llama.cpp, whose sources are not in it: they come from
--templates, or from the cache (see fetch.py). The small templates, and the expressions of
tests/golden/jinja_behaviours.txt, need no source. --hub: a list of {"chat_template", "data", "target"}.
"""
import argparse
import ast
import json
import pathlib
import re
import subprocess
import sys

import fetch

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
LITERAL = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\s+-> (.*)""")
# What the lines of the behaviours were rendered with.
USUAL = {"l": [1, 2], "d": {"b": 1, "a": 2}, "m": {"k": 1}}
SPECIAL = {
    "for i in l if": {"l": [1, 2, 3]},
    "d|tojson": {"d": {"b": "<é>\u2028\"", "a": [1, 2.5, None, True]}},
    "x.items": {"x": {"items": [1]}},
    "a.0": {"a": [7]},
    "a|map": {"a": ["x", "y"]},
    "m is defined": {"m": None},
}


def render(muster, conversations):
    """What the program answers to each, in one run."""
    done = subprocess.run([muster, "template", "--lines"], capture_output=True, timeout=600,
                          input="".join(json.dumps(c) + "\n" for c in conversations).encode())
    if done.returncode:
        print(f"  exit status {done.returncode}: {done.stderr.decode(errors='replace').strip()}")
    answers = [json.loads(line) for line in done.stdout.decode().split("\n") if line]
    return answers + [{"died": True}] * (len(conversations) - len(answers))


class Count:
    def __init__(self, muster):
        self.muster, self.passed, self.failed, self.skipped = muster, 0, 0, 0

    def check(self, title, cases):
        """cases: (name, conversation, the text wanted or None for an error)."""
        good = 0
        for (name, _, want), got in zip(cases, render(self.muster, [c[1] for c in cases])):
            if "error" in got if want is None else got.get("text") == want:
                good += 1
            else:
                print(f"  {name}: wanted {'an error' if want is None else repr(want)[:300]}")
                print(f"  {name}: got    {got!r:.300}")
        self.passed += good
        self.failed += len(cases) - good
        print(f"{title}: {good} of {len(cases)}")


def read_lines(path):
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return lines[0], lines[1:]


def mini_cases(path):
    header, lines = read_lines(path)
    usual = {k: header[k] for k in ("messages", "variables", "now")}
    return [(f"small {c['id']}", {**usual, "template": c["template"]}, c.get("text")) for c in lines]


def behaviour_cases(path):
    cases = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        found = LITERAL.fullmatch(line)
        if not found or " at 0x" in found[2]:  # Python printed an address
            continue
        template = ast.literal_eval(found[1])
        variables = dict(USUAL)
        for part, special in SPECIAL.items():
            if part in template:
                variables.update(special)
        variables = {k: v for k, v in variables.items() if v is not None}
        messages = [{"role": "a", "r": 1}, {"role": "b", "r": 2}]
        conversation = {"template": template, "variables": variables, "messages": messages,
                        "now": "2025-07-10T00:00:00"}
        want = None if found[2].startswith("!!") else ast.literal_eval(found[2])
        cases.append((f"behaviour {number}", conversation, want))
    return cases


def model_cases(path, templates):
    header, lines = read_lines(path)
    sources, cases = {}, []
    for c in lines:
        name = c["template"]
        if name not in sources:
            sources[name] = (templates / name).read_bytes().decode()
        conversation = {**header["conversations"][c["conversation"]], "template": sources[name],
                        "variables": header["variables"], "now": header["now"],
                        "add_generation_prompt": c["add_generation_prompt"]}
        cases.append((f"{name} {c['conversation']} {c['add_generation_prompt']}", conversation, c.get("text")))
    return cases


def hub_cases(path):
    cases = json.loads(path.read_text(encoding="utf-8"))
    return [(c["n"], {"template": c["chat_template"], "variables": c["data"], "now": "2025-07-10T00:00:00"},
             c["target"]) for c in cases]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--muster", required=True)
    parser.add_argument("--oracle", required=True, type=pathlib.Path)
    parser.add_argument("--cache", default=fetch.user_cache(), type=pathlib.Path)
    parser.add_argument("--templates", type=pathlib.Path)
    parser.add_argument("--hub", type=pathlib.Path)
    args = parser.parse_args()
    count = Count(args.muster)
    folder = args.oracle / "5_chat_templates"
    count.check("behaviours", behaviour_cases(GOLDEN / "jinja_behaviours.txt"))
    count.check("small templates", mini_cases(GOLDEN / "chat_mini.jsonl"))
    if args.hub:
        count.check("templates of the hub", hub_cases(args.hub))
    if (folder / "cases.jsonl").exists():
        try:
            templates = args.templates or fetch.llamacpp(args.cache) / "templates"
            count.check("templates of models", model_cases(folder / "cases.jsonl", templates))
        except fetch.CannotFetch as why:
            print(f"templates of models: {why}")
            count.skipped += 1
    else:
        count.skipped += 1
    print(f"{count.passed} passed, {count.failed} failed" + (f", {count.skipped} skipped" if count.skipped else ""))
    sys.exit(1 if count.failed else 0)


if __name__ == "__main__":
    main()
