#!/usr/bin/env python3
"""Holds `muster tokenize` to the sentencepiece package on models trained here with many settings, and
to Hugging Face's tokenizers where the same tables stand in a tokenizer.json. Both packages come from
PyPI; without them it is skipped (python3 -m venv ..., pip install sentencepiece tokenizers).
With --golden it writes the small models and vectors of tests/golden/sentencepiece instead."""
import argparse
import base64
import itertools
import json
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

sys.path.pop(0)  # tokenizers.py beside this file is another one

try:
    import sentencepiece
    import tokenizers
except ImportError:
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SHOWN = 3
ODD = (list(map(chr, range(32, 127))) * 6 + list(" " * 80 + "\t\n\r▁▁éèüñçİıßǅﬁﬀ①㌀Ǻ̈日本語中文한국어ไทยالعربية")
       + ["🙂", "👨\u200d👩\u200d👧", "🇩🇪", "\u200b", "\u00a0", "\u3000", "\u2028", "\ufeff", "\u00ad",
          "\x7f", "\x01", "<sep>", "<user>", "a b", "<s>", "</s>", "<unk>", "<0x41>", "the ", " and "])
SETTINGS = [
    {},
    {"byte_fallback": True},
    {"normalization_rule_name": "identity", "add_dummy_prefix": False, "byte_fallback": True,
     "remove_extra_whitespaces": False},
    {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "byte_fallback": True,
     "user_defined_symbols": ["<sep>", "<user>", "  ", "▁▁▁"]},
    {"normalization_rule_name": "nfkc_cf", "user_defined_symbols": ["<sep>", "a b", "ﬁ"]},
    {"normalization_rule_name": "nfkc", "treat_whitespace_as_suffix": True},
    {"normalization_rule_name": "nmt_nfkc", "split_by_whitespace": False, "add_dummy_prefix": False,
     "control_symbols": ["<user>"]},
]
COUNTS = {"passed": 0, "failed": 0}
ARGS = None


def make_texts(n, seed):
    r = random.Random(seed)
    any_letter = lambda: chr(r.choice([r.randrange(1, 0xD800), r.randrange(0xE000, 0x110000)]))
    lengths = [1, 2, 3, 5, 8, 13, 30, 60]
    return ["", " ", "  ", "▁", " a", "a ", "a  b"] + [
        "".join(r.choice(ODD) if r.random() < 0.95 else any_letter() for _ in range(r.choice(lengths)))
        for _ in range(n)]


def corpus(folder):
    lines = [line for path in sorted(ROOT.glob("docs/**/*.md")) for line in path.read_text().split("\n")]
    path = pathlib.Path(folder) / "corpus.txt"
    odd = ["".join(pair) for pair in itertools.pairwise(ODD) if "\n" not in pair and "\r" not in pair]
    path.write_text("\n".join(filter(str.strip, lines + odd)))
    return path


def train(folder, text, kind, **settings):
    folder.mkdir()
    size = settings.pop("vocab_size", 900)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "m"), vocab_size=size, model_type=kind,
        hard_vocab_limit=False, character_coverage=0.995, minloglevel=2, **settings)
    (folder / "m.vocab").unlink()
    return (folder / "m.model").rename(folder / "tokenizer.model")


def tokenize(folder, values, *words):
    done = subprocess.run([ARGS.muster, "tokenize", str(folder), "--batch", *words],
                          input=json.dumps(values).encode(), capture_output=True, timeout=300)
    if done.returncode == 0:
        return json.loads(done.stdout)
    print("   ", done.stderr.decode().strip())
    return [None] * len(values)


def compare(name, texts, want, got):
    wrong = [i for i in range(len(want)) if want[i] != got[i]]
    print(f"  {name}: {len(want) - len(wrong)} of {len(want)}")
    for i in wrong[:SHOWN]:
        print(f"    {texts[i]!r:.200}\n    expected {want[i]!r:.300}\n    got      {got[i]!r:.300}")
    COUNTS["passed"] += len(want) - len(wrong)
    COUNTS["failed"] += len(wrong)


def check_model(folder, texts):
    sp = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    ids = sp.encode(texts)
    compare("ids", texts, ids, tokenize(folder, texts, "--no-special"))
    # sentencepiece writes an unknown piece as " ⁇ ", muster as the piece is spelled.
    known = [i for i in ids if sp.unk_id() not in i]
    compare("decode", known, [sp.decode(i) for i in known], tokenize(folder, known, "--decode"))


def fields(raw):
    """The (number, value) pairs of a protobuf message."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(raw):
        tag = varint()
        n = {1: 8, 5: 4}.get(tag & 7)
        if tag & 7 == 0:
            yield tag >> 3, varint()
            continue
        n = n or varint()
        yield tag >> 3, raw[at:at + n]
        at += n


def check_precompiled(model, folder, texts):
    """The unigram model and its table as Hugging Face writes them."""
    parts = list(fields(model.read_bytes()))
    pieces = [dict(fields(value)) for number, value in parts if number == 1]
    table = next(dict(fields(value)).get(2, b"") for number, value in parts if number == 3)
    if not table:
        return
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    precompiled = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}
    shrink = [{"type": "Strip", "strip_left": False, "strip_right": True},
              {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]
    for name, normalizer in (("alone", precompiled),
                             ("with spaces", {"type": "Sequence", "normalizers": [precompiled] + shrink})):
        document = {
            "version": "1.0", "added_tokens": [], "normalizer": normalizer, "pre_tokenizer": metaspace,
            "post_processor": None, "decoder": metaspace,
            "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": False, "vocab": [
                [p[1].decode(), struct.unpack("<f", p.get(2, bytes(4)))[0]] for p in pieces]}}
        folder.mkdir(exist_ok=True)
        (folder / "tokenizer.json").write_text(json.dumps(document))
        reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        want = [e.ids for e in reference.encode_batch(texts)]
        compare(f"tokenizer.json, Precompiled {name}", texts, want, tokenize(folder, texts))


def write_golden(folder):
    rules = folder / "rules.tsv"
    rules.write_text("".join(
        " ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n"
        for a, b in (("ﬁ", "fi"), ("①", "1"), ("\u00a0", " "), ("\u200b", ""), ("İ", "i̇"), ("ẍ", "x"))))
    text = corpus(folder)
    vectors = {}
    for kind in ("bpe", "unigram"):
        model = train(folder / kind, text, kind, vocab_size=500, byte_fallback=True,
                      normalization_rule_tsv=str(rules), user_defined_symbols=["<sep>", "▁▁▁"])
        target = ROOT / f"tests/golden/sentencepiece/{kind}/tokenizer.model"
        target.write_bytes(model.read_bytes())
        sp = sentencepiece.SentencePieceProcessor(model_file=str(model))
        texts = make_texts(120, 7)
        vectors[kind] = [[t, sp.encode(t), sp.decode(sp.encode(t))] for t in texts]
    (ROOT / "tests/golden/sentencepiece/vectors.json").write_text(
        json.dumps(vectors, separators=(",", ":"), ensure_ascii=True) + "\n")


def main():
    global ARGS
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--muster", default=str(ROOT / "build/muster"))
    parser.add_argument("--oracle")  # not used: the packages answer
    parser.add_argument("--cache")
    parser.add_argument("--texts", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--golden", action="store_true")
    ARGS = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if ARGS.golden:
            return write_golden(folder)
        texts, text = make_texts(ARGS.texts, ARGS.seed), corpus(folder)
        for i, (kind, settings) in enumerate(itertools.product(("bpe", "unigram"), SETTINGS)):
            print(kind, settings)
            model = train(folder / str(i), text, kind, **settings)
            check_model(folder / str(i), texts)
            if kind == "unigram":
                check_precompiled(model, folder / "json", texts)
    print(f"{COUNTS['passed']} passed, {COUNTS['failed']} failed")
    return 1 if COUNTS["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
