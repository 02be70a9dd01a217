#!/usr/bin/env python3
"""Perplexity of the default arithmetic beside the f32 path, for every type that muster writes.

    bench/perplexity.py [--muster build/muster] [--types q8_0,q4_0] MODEL.gguf TEXT

The model is converted to each type in a temporary folder. Every text is scored twice: in windows of
512 tokens, the second half of each, as llama.cpp does it, and as one window, every token but the
first. Prints a table; exits with 1 when a type is off by more than 0.5 %, which the contract forbids.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

TYPES = ("f16", "bf16", "q8_0", "q6_k", "q5_1", "q5_0", "q4_1", "q4_0")
ALLOWED_PERCENT = 0.5


def perplexity(muster, model, text, window, compute):
    out = subprocess.run([muster, "perplexity", model, "-f", text, "--window", str(window),
                          "--compute", compute, "--json"], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)["perplexity"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("--muster", default="build/muster", type=pathlib.Path)
    parser.add_argument("--types", default=",".join(TYPES))
    args = parser.parse_args()
    worst = 0
    print("| type | f32, windows of 512 | default | off by | f32, one window | default | off by |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for kind in args.types.split(","):
            model = pathlib.Path(folder) / f"{kind}.gguf"
            subprocess.run([args.muster, "convert", "--quiet", "-w", kind, args.model, model], check=True)
            cells = []
            for window in (512, 0):
                exact = perplexity(args.muster, model, args.text, window, "f32")
                ours = perplexity(args.muster, model, args.text, window, "default")
                off = 100 * (ours / exact - 1)
                worst = max(worst, abs(off))
                cells += [f"{exact:.4f}", f"{ours:.4f}", f"{off:+.2f}%"]
            model.unlink()
            print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)
    print(f"\nworst: {worst:.2f} %")
    return worst > ALLOWED_PERCENT


if __name__ == "__main__":
    sys.exit(main())
