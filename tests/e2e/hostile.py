"""Hostile models, run: whatever is wrong with them, a clear refusal or an answer, in seconds.

The cases and what they must give come from tests/golden/hostile/index.json. Each lays its files over a
good model; then a generation, a tokenisation and a chat are tried.
"""
import json
import pathlib
import shutil
import subprocess
import tempfile

from _case import MUSTER, ROOT, case, finish

HOSTILE = ROOT / "tests/golden/hostile"
SLOW_TEXT = "a" * 40 + "!"
CONVERSATION = json.dumps({"messages": [{"role": "user", "content": "hello"}]})


def lay_out(item, folder):
    """The path of the model of this case."""
    files = HOSTILE / "cases" / item["id"]
    if item["kind"] == "gguf":
        return files / item["files"][0]
    model = pathlib.Path(folder) / "model"
    shutil.copytree(HOSTILE / "base", model)
    for name in item.get("remove_from_base", []):
        (model / name).unlink()
    for source in files.rglob("*"):
        if source.is_file():
            target = model / source.relative_to(files)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return model


def attempts(item, model):
    """The commands that show the fault of this case, or show that it does no harm."""
    run = ["generate", str(model), "-n", "2", "--greedy", "--json"]
    if item["id"].startswith("tok_chat_"):
        return [(run + ["--chat", "-"], CONVERSATION)]
    if item["id"].startswith("tok_"):
        return [(["tokenize", str(model), "--json"], SLOW_TEXT)]
    return [(run + ["--tokens", "5,6,7"], ""), (["inspect", str(model), "--json"], "")]


def check(item):
    with tempfile.TemporaryDirectory() as folder:
        model = lay_out(item, folder)
        failed = 0
        for words, stdin in attempts(item, model):
            done = subprocess.run([MUSTER, *words], input=stdin, capture_output=True, text=True,
                                  timeout=20, cwd=folder)
            where = f"{' '.join(words)}: exit {done.returncode} {done.stderr}"
            assert done.returncode in (0, 3), where
            if done.returncode:
                failed += 1
                assert done.stderr.startswith("muster: ") and done.stderr.count("\n") == 1, where
                assert done.stdout == "", where
        if item["must"] == "error":
            assert failed, "was not refused"
        if item["must"] == "ok":
            assert not failed, done.stderr


for entry in json.loads((HOSTILE / "index.json").read_text()):
    test = lambda entry=entry: check(entry)
    test.__name__ = entry["id"]
    case(test)

finish()
