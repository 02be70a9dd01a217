#!/usr/bin/env python3
"""Holds `muster tokenize` to the ids and texts that the reference tokenizers gave, to llama.cpp's own
vectors, to the checks of the small checkpoints, and to how hostile tokenizers must end."""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unicodedata

import fetch

SEPARATOR = "\n__ggml_vocab_test__\n"
SLOW_TEXT = "a" * 40 + "!"
SHOWN = 3

ARGS = None
COUNTS = {"passed": 0, "failed": 0, "skipped": 0}


def run(model, text, *options):
    return subprocess.run([ARGS.muster, "tokenize", str(model), *options], input=text,
                          capture_output=True, timeout=300)


def batch(model, values, *options):
    """One run of the program over a batch; a row of None when it failed."""
    done = run(model, json.dumps(values).encode(), "--batch", *options)
    if done.returncode == 0:
        return json.loads(done.stdout)
    print("   ", done.stderr.decode("utf-8", "replace").strip())
    return [None] * len(values)


def compare(name, expected, got):
    """Counts one list of results; prints the first few that differ."""
    wrong = [i for i in range(len(expected)) if got[i] != expected[i]]
    for i in wrong[:SHOWN]:
        print(f"    {i}: expected {expected[i]!r:.300}\n    {i}: got      {got[i]!r:.300}")
    COUNTS["passed"] += len(expected) - len(wrong)
    COUNTS["failed"] += len(wrong)
    print(f"  {name}: {len(expected) - len(wrong)} of {len(expected)}")


def check_vocabulary(case, common, model):
    texts = common["texts"] + case["extra_texts"]
    plain = list(texts)
    for index, text in case["decode_differs_from_text"].items():
        plain[int(index)] = text
    compare("ids", case["ids"], batch(model, texts))
    compare("decode", plain, batch(model, case["ids"], "--decode"))
    # Anything but a crash is right for bytes that are not UTF-8.
    ends = [run(model, bytes.fromhex(text), "--json").returncode in (0, 3)
            for text in common["invalid_utf8_hex"]]
    compare("bytes that are not UTF-8", [True] * len(ends), ends)


def check_pairs(model):
    """Texts between separators in .inp, ids one text a line in .out. Texts that are not in NFC are
    left out: where the published tokenizer normalises, llama.cpp does not."""
    texts = pathlib.Path(f"{model}.inp").read_bytes().decode().split(SEPARATOR)
    lines = pathlib.Path(f"{model}.out").read_text().split("\n")
    pairs = [(text, [int(word) for word in line.split()]) for text, line in zip(texts, lines)
             if unicodedata.is_normalized("NFC", text)]
    done = run(model, b"", "--json")
    if done.returncode == 3 and b"is not known" in done.stderr:
        print("  .inp/.out: a kind of tokenizer that is not spoken")
        COUNTS["skipped"] += len(pairs)
        return
    compare(".inp/.out", [ids for _, ids in pairs], batch(model, [text for text, _ in pairs]))


def check_tiny(folder):
    checks = json.loads((folder / "expected.json").read_text())["tokenizer_checks"]
    texts = [c["text"] for c in checks]
    compare("ids", [c["ids"] for c in checks], batch(folder, texts))
    compare("ids with special", [c["ids_with_special"] for c in checks],
            batch(folder, texts, "--add-special"))
    compare("decode", [c["decoded"] for c in checks],
            batch(folder, [c["ids"] for c in checks], "--decode"))


def check_hostile(oracle):
    """Those cases that a tokenizer alone shows; the rest belong to the readers and to chat."""
    wrong = 0
    cases = [c for c in json.loads((oracle / "index.json").read_text())
             if c["id"].startswith("tok_") and not c["id"].startswith("tok_chat_")]
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            for source in (oracle / "base", oracle / "cases" / case["id"]):
                for path in source.iterdir():
                    target = pathlib.Path(folder, path.name)
                    target.unlink(missing_ok=True)
                    shutil.copyfile(path, target)
            done = run(folder, SLOW_TEXT.encode(), "--json")
        allowed = {"error": (3,), "ok": (0,), "either": (0, 3)}[case["must"]]
        if done.returncode not in allowed or (done.returncode and done.stderr.count(b"\n") != 1):
            print(f"    {case['id']}: exit {done.returncode}: {done.stderr.decode()}")
            wrong += 1
    COUNTS["passed"] += len(cases) - wrong
    COUNTS["failed"] += wrong
    print(f"  hostile: {len(cases) - wrong} of {len(cases)}")


def main():
    global ARGS
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--muster", "--oracle", "--cache"):
        parser.add_argument(name, required=True)
    ARGS = parser.parse_args()
    oracle = pathlib.Path(ARGS.oracle)
    if not (oracle / "3_tokenizers").is_dir():
        print("0 passed, 0 failed, 1 skipped")
        return 0
    vocabularies = pathlib.Path(fetch.llamacpp(ARGS.cache))
    smollm2 = pathlib.Path(fetch.smollm2(ARGS.cache))
    common = json.loads((oracle / "3_tokenizers/texts.json").read_text())
    for path in sorted((oracle / "3_tokenizers").glob("*.json")):
        if path.name == "texts.json":
            continue
        case = json.loads(path.read_text())
        name = case["vocab_file"]
        print(name)
        check_vocabulary(case, common, smollm2 if name == smollm2.name else vocabularies / name)
    for path in sorted(vocabularies.glob("*.gguf")):
        if os.path.exists(f"{path}.inp"):
            print(path.name)
            check_pairs(path)
    for folder in sorted((oracle / "1_tiny").iterdir()):
        print(f"1_tiny/{folder.name}")
        check_tiny(folder)
    print("7_hostile")
    check_hostile(oracle / "7_hostile")
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**COUNTS))
    return 1 if COUNTS["failed"] else 0


sys.exit(main())
