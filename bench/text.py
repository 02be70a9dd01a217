#!/usr/bin/env python3
"""Times muster's tokenizer and templates beside others, by turns on one thread of the same machine:
Hugging Face's tokenizers and llama.cpp on 10 MB of mixed text with Llama 3's vocabulary, and jinja2 on
the templates of real models. Prints the tables that bench/results/ keeps.

    bench/text.py [--times N] [--megabytes N] [--templates FOLDER]

The packages come from PyPI into a virtual environment in the user's cache; llama.cpp must have been
built by `make peers`. The vocabulary is the one that llama.cpp's source carries."""
import argparse
import json
import os
import pathlib
import random
import statistics
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/oracle"))
import fetch  # noqa: E402

PACKAGES = ("tokenizers==0.23.3", "jinja2==3.1.6")
LLAMA3 = ("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
          "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
HF_ENCODE = """
import struct, sys, time
from tokenizers import Tokenizer
data, at, texts = sys.stdin.buffer.read(), 0, []
while at < len(data):
    n, = struct.unpack_from("<I", data, at)
    texts.append(data[at + 4:at + 4 + n].decode())
    at += 4 + n
begin = time.perf_counter()
t = Tokenizer.from_file(sys.argv[1])
load = time.perf_counter() - begin
begin = time.perf_counter()
n = sum(len(e) for e in t.encode_batch_fast(texts, add_special_tokens=False))
print(time.perf_counter() - begin, n, load)
"""
JINJA_RENDER = """
import json, sys, time
import jinja2, jinja2.sandbox
env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                   extensions=["jinja2.ext.loopcontrols"])
env.filters["tojson"] = lambda x, indent=None, **_: json.dumps(x, ensure_ascii=False, indent=indent)
def refuse(message):
    raise jinja2.TemplateError(message)
env.globals.update(raise_exception=refuse, strftime_now=lambda f: time.strftime(f))
talk = json.load(sys.stdin)
talk.update(talk.pop("variables"))
template = env.from_string(open(sys.argv[1]).read())
n = int(sys.argv[2])
template.render(**talk)
begin = time.perf_counter()
for _ in range(n):
    text = template.render(**talk)
print(time.perf_counter() - begin, len(text.encode()))
"""
TALK = {"messages": [
    {"role": "system", "content": "You are a helpful assistant. " * 8},
    *({"role": role, "content": f"Turn {i}: " + "some words to say here, " * 20}
      for i in range(8) for role in ("user", "assistant")),
    {"role": "user", "content": "And now?"}],
    "tools": None, "documents": None, "add_generation_prompt": True,
    "variables": {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}}


def run(*words, stdin=b""):
    done = subprocess.run([str(w) for w in words], input=stdin, capture_output=True,
                          env=dict(os.environ, TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1"))
    if done.returncode:
        raise RuntimeError(f"{words[0]}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout.decode()


def python_with_packages(cache):
    python = cache / "peers/venv/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", python.parent.parent], check=True)
        subprocess.run([python, "-m", "pip", "--quiet", "install", *PACKAGES], check=True)
    return python


# ---- What is encoded ------------------------------------------------------------------------------


def mixed_text(megabytes):
    """Pieces of some 100 kB: code, prose, Chinese and Japanese, emoji, white space; no two alike."""
    r = random.Random(1)
    files = run("git", "-C", ROOT, "ls-files").split("\n")
    code = [p for name in files if name.endswith((".c", ".h", ".py"))
            for p in (ROOT / name).read_text(errors="replace").split("\n\n")]
    prose = [p for name in files if name.endswith((".md", "LICENSE"))
             for p in (ROOT / name).read_text(errors="replace").split("\n\n")]
    words = sorted({w for p in prose for w in p.split() if w.isalpha()})
    ideographs = [chr(c) for c in range(0x4E00, 0x4E00 + 3000)] + [chr(c) for c in range(0x3041, 0x3097)]

    def piece():
        kind = r.random()
        if kind < 0.35:
            return r.choice(code)
        if kind < 0.55:
            return r.choice(prose)
        if kind < 0.75:
            return " ".join(r.choice(words) for _ in range(60)) + "."
        if kind < 0.90:
            return "".join(r.choice(ideographs) if r.random() < 0.93 else "，" for _ in range(150))
        if kind < 0.95:
            return "".join(chr(r.randrange(0x1F300, 0x1F650)) + r.choice([" ", "", "\ufe0f"]) for _ in range(40))
        return "\n".join(" " * r.randrange(24) + "\t" * r.randrange(3) + str(r.randrange(10**6)) for _ in range(30))

    texts = []
    for _ in range(int(megabytes * 10)):
        text = ""
        while len(text.encode()) < 100000:
            text += piece() + "\n\n"
        texts.append(text.encode())
    return texts


def gguf_tokenizer(path):
    """tokens, types and merges of a GGUF file."""
    raw = path.read_bytes()
    at = 8
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def take(fmt):
        nonlocal at
        value = struct.unpack_from("<" + fmt, raw, at)
        at += struct.calcsize("<" + fmt)
        return value[0] if len(value) == 1 else value

    def text():
        nonlocal at
        n = take("Q")
        at += n
        return raw[at - n:at].decode()

    def value(kind):
        nonlocal at
        if kind == 8:
            return text()
        if kind == 9:
            inner, n = take("IQ")
            return [value(inner) for _ in range(n)]
        at += sizes[kind]
        return int.from_bytes(raw[at - sizes[kind]:at], "little")

    _, n_keys = take("QQ")
    found = {}
    for _ in range(n_keys):
        key = text()
        found[key.removeprefix("tokenizer.ggml.")] = value(take("I"))
    return found["tokens"], found["token_type"], found["merges"]


def write_tokenizer_json(gguf, folder):
    """The same vocabulary as its publisher's tokenizer.json."""
    tokens, types, merges = gguf_tokenizer(gguf)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    document = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for i, t in enumerate(tokens) if types[i] == 3],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False}, byte_level]},
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
                  "vocab": {t: i for i, t in enumerate(tokens) if types[i] != 3}, "merges": merges}}
    (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False))
    return folder


# ---- The tables -----------------------------------------------------------------------------------


def floats(out):
    return [float(word) for word in out.split()]


def time_tokenizers(args, cache, folder):
    python, peer = python_with_packages(cache), fetch.llamacpp_program(cache, "tokenize", folder)
    gguf = fetch.llamacpp(cache) / "ggml-vocab-llama-bpe.gguf"
    model = write_tokenizer_json(gguf, folder)
    texts = mixed_text(args.megabytes)
    data = b"".join(struct.pack("<I", len(t)) + t for t in texts)
    megabytes = sum(map(len, texts)) / 1e6
    runs = {"muster": [], "tokenizers": [], "llama.cpp": []}
    loads = {"muster, tokenizer.json": [], "muster, GGUF": [], "tokenizers": [], "llama.cpp, GGUF": []}
    for _ in range(args.times):
        runs["muster"].append(floats(run(args.bench, "encode", gguf, 1, stdin=data)))
        runs["tokenizers"].append(floats(run(python, "-c", HF_ENCODE, model / "tokenizer.json", stdin=data)))
        runs["llama.cpp"].append(floats(run(peer, gguf, "seconds", 1, stdin=data)))
        loads["muster, tokenizer.json"] += floats(run(args.bench, "load", model, 1))[:1]
        loads["muster, GGUF"] += floats(run(args.bench, "load", gguf, 1))[:1]
        loads["tokenizers"].append(runs["tokenizers"][-1][2])
        loads["llama.cpp, GGUF"] += floats(run(peer, gguf, "load", 1))[:1]
    rate = {name: megabytes / statistics.median(r[0] for r in rows) for name, rows in runs.items()}
    print(f"\n| {megabytes:.1f} MB, Llama 3's vocabulary, one thread | MB/s | tokens | muster is x times |\n|---|---|---|---|")
    for name, rows in runs.items():
        print(f"| {name} | {rate[name]:.1f} | {rows[0][1]:.0f} | {rate['muster'] / rate[name]:.1f} |")
    print("\n| load of its 128,256 tokens | ms |\n|---|---|")
    for name, rows in loads.items():
        print(f"| {name} | {statistics.median(rows) * 1e3:.0f} |")


def time_templates(args, cache, folder):
    python = python_with_packages(cache)
    templates = pathlib.Path(args.templates) if args.templates else fetch.llamacpp(cache) / "templates"
    talk = json.dumps(TALK).encode()
    rows, ratios = [], []
    for path in sorted(templates.glob("*.jinja")):
        ours, theirs = [], []
        try:
            for _ in range(args.times):
                ours.append(floats(run(args.bench, "render", path, 200, stdin=talk)))
                theirs.append(floats(run(python, "-c", JINJA_RENDER, path, 200, stdin=talk)))
        except RuntimeError:
            continue  # the template wants another conversation
        a, b = (200 / statistics.median(r[0] for r in runs) for runs in (ours, theirs))
        rows.append((path.stem, a, b, "" if ours[0][1] == theirs[0][1] else " (not the same text)"))
        ratios.append(a / b)
    print("\n| template, 18 messages | muster renders/s | jinja2 renders/s | x times |\n|---|---|---|---|")
    for name, a, b, note in rows:
        print(f"| {name}{note} | {a:.0f} | {b:.0f} | {a / b:.1f} |")
    print(f"| median of {len(rows)} | | | {statistics.median(ratios):.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=10)
    parser.add_argument("--templates", help="a folder of .jinja files; without it those of llama.cpp")
    parser.add_argument("--only", choices=("tokenizers", "templates"))
    parser.add_argument("--bench", default=str(ROOT / "build/bench/text"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    subprocess.run(["make", "--no-print-directory", "-C", ROOT, "build/bench/text"], check=True,
                   stdout=subprocess.DEVNULL)
    cache = pathlib.Path(fetch.user_cache())
    with tempfile.TemporaryDirectory() as name:
        if args.only != "templates":
            time_tokenizers(args, cache, pathlib.Path(name))
        if args.only != "tokenizers":
            time_templates(args, cache, pathlib.Path(name))


if __name__ == "__main__":
    main()
