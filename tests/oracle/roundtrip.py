#!/usr/bin/env python3
"""Tokenises random Unicode texts and decodes the tokens: the text must come back, on every vocabulary
of llama.cpp and the demo's model. Where a vocabulary cannot say everything, what comes back must be
the text as that vocabulary's own normaliser has it, and it is counted apart:

- NFC: the published tokenizer composes characters first, so that the text comes back composed (a table of
  replacements may leave some in another form of the same);
- spaces: SentencePiece spells a space as U+2581, so that one in the text comes back as a space;
- bytes: a vocabulary spelled in bytes may lack some (those that begin characters of far planes), or have
  tokens that are one letter in the text and one byte when written. Texts with such a character are
  counted as lost when the character alone is lost too, as it stands or composed with its marks; the
  characters' planes and letters are shown.

Special tokens are taken as text like any other: behind them SentencePiece puts a space."""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import unicodedata

import fetch

PARTS = [list(map(chr, range(32, 127))), list(" \t\n\r\u00a0\u3000\u2028"), ["  ", "\n\n", "\r\n", "   \n"],
         list("éèüñçİıßǅﬁ①Ǻ"), list("\u0301\u0308\u0327\u05b0\u200d\ufe0f\u1101"),
         list("日本語中文한국어"), list("ไทยالعربيةעברית"), ["🙂", "👩\u200d🚀", "🇩🇪", "\U0001f3fb"],
         ["\0", "\x01", "\x7f", "\x85", "\u200b", "\ufeff", "\ufffd", "\ufffe", "\U0010ffff"],
         ["the", " and", "ing", "'s", "'LL", "123", "4567"], ["<s>", "<|endoftext|>", "<0x41>", "▁"]]
WEIGHTS = [30, 12, 6, 6, 5, 8, 6, 5, 4, 12, 1]


def make_texts(n, seed):
    r = random.Random(seed)

    def letter():
        if r.random() < 0.1:
            return chr(r.choice([r.randrange(0, 0xD800), r.randrange(0xE000, 0x110000)]))
        return r.choice(r.choices(PARTS, WEIGHTS)[0])

    return ["".join(letter() for _ in range(int(r.expovariate(1 / 15)))) for _ in range(n)]


def batch(muster, model, values, *words):
    done = subprocess.run([muster, "tokenize", str(model), "--batch", *words],
                          input=json.dumps(values).encode(), capture_output=True, timeout=900)
    if done.returncode == 3 and b"is not known" in done.stderr:
        return None
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode())
    return json.loads(done.stdout)


def encode_decode(muster, model, texts):
    """What comes back, or None for a kind of tokenizer that is not spoken."""
    ids = batch(muster, model, texts, "--no-special")
    return ids and batch(muster, model, ids, "--decode")


def lost_letters(muster, model, texts):
    letters = sorted(set("".join(texts)))
    return {a for a, b in zip(letters, encode_decode(muster, model, letters))
            if b not in (a, unicodedata.normalize("NFC", a), a.replace("▁", " "))}


def check(muster, model, texts):
    """(came back, came back normalised, lost with its letters, did not), or None."""
    back = encode_decode(muster, model, texts)
    if back is None:
        return None
    same = sum(a == b for a, b in zip(texts, back))
    other = [(a, b) for a, b in zip(texts, back) if a != b]
    nfc = lambda text: unicodedata.normalize("NFC", text)
    changed = [(a, b) for a, b in other if b != a.replace("▁", " ") and nfc(b) != nfc(a)]
    composed = {a: a + nfc(a) for a, _ in changed}
    lost = lost_letters(muster, model, composed.values())
    wrong = [(a, b) for a, b in changed if not lost & set(composed[a])]
    for a, b in wrong[:3]:
        print(f"    {a!r:.200}\n    {b!r:.200}")
    if lost:
        planes = sorted({ord(c) >> 16 for c in lost if ord(c) > 0xFFFF})
        print(f"    lost: {''.join(sorted(c for c in lost if ord(c) < 0x10000))} and planes {planes}")
    return same, len(other) - len(changed), len(changed) - len(wrong), len(wrong)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--muster", required=True)
    parser.add_argument("--oracle")  # not used: the text itself is the answer
    parser.add_argument("--cache", required=True)
    parser.add_argument("--texts", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    cache = pathlib.Path(args.cache)
    models = sorted(fetch.llamacpp(cache).glob("*.gguf")) + [fetch.smollm2(cache)]
    texts = make_texts(args.texts, args.seed)
    passed = failed = skipped = 0
    for model in models:
        counts = check(args.muster, model, texts)
        if counts is None:
            print(f"  {model.name}: a kind of tokenizer that is not spoken")
            skipped += 1
            continue
        print(f"  {model.name}: {counts[0]} as they were, {counts[1]} normalised, "
              f"{counts[2]} with characters that it lacks, {counts[3]} not")
        passed, failed = passed + sum(counts[:3]), failed + counts[3]
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
