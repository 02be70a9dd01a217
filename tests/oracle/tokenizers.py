#!/usr/bin/env python3
"""Holds `muster tokenize` to what the reference tokenizers gave.

Usage: tokenizers.py MUSTER ORACLE_FOLDER VOCABULARY_FOLDER [FURTHER_FOLDER...]

ORACLE_FOLDER has 3_tokenizers (expected ids) and 1_tiny (checkpoints with checks of their own).
The vocabulary folders hold the GGUF files that the expectations name; a .gguf beside which lie
.inp and .out files is checked against those too. A vocabulary that is not there is skipped.
"""

import json
import os
import subprocess
import sys

SEPARATOR = "\n__ggml_vocab_test__\n"


def tokenize(muster, model, value, *options):
    """One run of the program over a batch; None when it failed."""
    done = subprocess.run([muster, "tokenize", model, "--batch", *options],
                          input=json.dumps(value).encode(), capture_output=True, timeout=300)
    if done.returncode != 0:
        print("   ", done.stderr.decode("utf-8", "replace").strip())
        return None
    return json.loads(done.stdout)


class Count:
    def __init__(self):
        self.passed = self.failed = 0

    def compare(self, name, expected, got, shown):
        """Counts one list of results; prints the first few that differ."""
        got = got if got is not None else [None] * len(expected)
        wrong = [i for i in range(len(expected)) if got[i] != expected[i]]
        for i in wrong[:shown]:
            print(f"    {i}: expected {expected[i]!r:.300}")
            print(f"    {i}: got      {got[i]!r:.300}")
        self.passed += len(expected) - len(wrong)
        self.failed += len(wrong)
        print(f"  {name}: {len(expected) - len(wrong)} of {len(expected)}")


def find(name, folders):
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.exists(path):
            return path
    return None


def check_vocabulary(muster, case, texts, path, count):
    texts = texts + case["extra_texts"]
    ids = tokenize(muster, path, texts)
    count.compare("ids", case["ids"], ids, 3)
    plain = [text.encode("utf-8", "surrogatepass").decode("utf-8", "replace") for text in texts]
    for index, text in case["decode_differs_from_text"].items():
        plain[int(index)] = text
    count.compare("decode", plain, tokenize(muster, path, case["ids"], "--decode"), 3)


def check_pairs(muster, path, skip, count):
    """llama.cpp's own vectors: texts between separators, ids one text a line."""
    with open(path + ".inp", encoding="utf-8", newline="") as f:
        texts = f.read().split(SEPARATOR)
    with open(path + ".out", encoding="utf-8") as f:
        lines = f.read().split("\n")
    expected = [[int(word) for word in line.split()] for line in lines[:len(texts)]]
    got = tokenize(muster, path, texts)
    if skip and got is not None:
        expected = [got[i] if texts[i] in skip else expected[i] for i in range(len(expected))]
    count.compare(".inp/.out", expected, got, 3)


def check_tiny(muster, folder, count):
    with open(os.path.join(folder, "expected.json"), encoding="utf-8") as f:
        checks = json.load(f)["tokenizer_checks"]
    texts = [c["text"] for c in checks]
    count.compare("ids", [c["ids"] for c in checks], tokenize(muster, folder, texts), 3)
    count.compare("ids with special", [c["ids_with_special"] for c in checks],
                  tokenize(muster, folder, texts, "--add-special"), 3)
    count.compare("decode", [c["decoded"] for c in checks],
                  tokenize(muster, folder, [c["ids"] for c in checks], "--decode"), 3)


def check_invalid(muster, path, texts, count):
    """Bytes that are not UTF-8: anything but a crash."""
    good = 0
    for text in texts:
        done = subprocess.run([muster, "tokenize", path, "--json"], input=bytes.fromhex(text),
                              capture_output=True, timeout=60)
        good += done.returncode in (0, 3)
    count.passed += good
    count.failed += len(texts) - good
    print(f"  bytes that are not UTF-8: {good} of {len(texts)}")


def main():
    muster, oracle, folders = sys.argv[1], sys.argv[2], sys.argv[3:]
    count = Count()
    with open(os.path.join(oracle, "3_tokenizers", "texts.json"), encoding="utf-8") as f:
        common = json.load(f)
    nfc = set()
    for name in sorted(os.listdir(os.path.join(oracle, "3_tokenizers"))):
        if name == "texts.json":
            continue
        with open(os.path.join(oracle, "3_tokenizers", name), encoding="utf-8") as f:
            case = json.load(f)
        path = find(case["vocab_file"], folders)
        print(case["vocab_file"] + ("" if path else ": not there, skipped"))
        if case["normalizer_nfc"]:
            nfc.add(case["vocab_file"])
        if path:
            check_vocabulary(muster, case, common["texts"], path, count)
            check_invalid(muster, path, common["invalid_utf8_hex"], count)
    for folder in folders:
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if name.endswith(".gguf") and os.path.exists(path + ".inp"):
                print(name)
                check_pairs(muster, path, name in nfc and {"e\u0301"}, count)
    for name in sorted(os.listdir(os.path.join(oracle, "1_tiny"))):
        print("1_tiny/" + name)
        check_tiny(muster, os.path.join(oracle, "1_tiny", name), count)
    print(f"{count.passed} passed, {count.failed} failed")
    return 1 if count.failed else 0


sys.exit(main())
