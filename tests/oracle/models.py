#!/usr/bin/env python3
"""Whole models against the reference implementations: logits, greedy tokens, log-probabilities.

Runs every checkpoint of ORACLE/1_tiny and ORACLE/6_quant that has expected values, and the
conversations and the perplexity of ORACLE/2_smollm2. Ends with 'N passed, N failed'.
"""
import argparse
import array
import json
import math
import os
import struct
import subprocess
import sys
import tempfile

import fetch

LOGITS_TOLERANCE = 1e-3
MARGIN = 2e-3


def read_safetensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    tensors = {}
    for name, t in header.items():
        if name == "__metadata__":
            continue
        begin, end = t["data_offsets"]
        kind = {"F32": "f", "I32": "i", "I64": "q"}[t["dtype"]]
        tensors[name] = (t["shape"], array.array(kind, data[begin:end]))
    return tensors


class Runner:
    def __init__(self, args):
        self.muster = args.muster
        self.filter = args.only
        self.passed = self.failed = 0

    def note(self, ok, name, detail=""):
        self.passed += ok
        self.failed += not ok
        if not ok:
            print(f"FAIL {name}: {detail}")

    def run(self, *words, stdin=None):
        done = subprocess.run([self.muster, *words], input=stdin, capture_output=True, text=True,
                              timeout=900)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip() or f"exit {done.returncode}")
        return done.stdout

    def generate(self, model, ids, n, *more):
        out = self.run("generate", model, "--tokens", ",".join(map(str, ids)), "-n", str(n),
                       "--greedy", "--ignore-eos", "--compute", "f32", "--rope-by-prompt",
                       "--json", *more)
        return json.loads(out)

    def checkpoint(self, model, expected_path, tensors_path):
        """One model with its expected.json and expected.safetensors."""
        expected = json.load(open(expected_path))
        tensors = read_safetensors(tensors_path)
        name = os.path.basename(model)
        for i, prompt in enumerate(expected["prompts"]):
            try:
                self.prompt_logits(model, name, i, prompt, tensors)
                self.prompt_greedy(model, name, i, prompt)
            except Exception as e:
                self.note(False, f"{name} prompt {i}", e)

    def prompt_logits(self, model, name, i, prompt, tensors):
        shape, want = tensors[f"p{i}.logits"]
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "logits.safetensors")
            self.run("logits", model, "--tokens", ",".join(map(str, prompt["input_ids"])),
                     "--positions", ",".join(map(str, prompt["positions"])), "--compute", "f32",
                     "--rope-by-prompt", "--out", out)
            got_shape, got = read_safetensors(out)["logits"]
        worst = max(abs(a - b) for a, b in zip(want, got)) if got_shape == shape else math.inf
        self.note(worst <= LOGITS_TOLERANCE, f"{name} prompt {i} logits", f"differ by {worst:g}")

    def prompt_greedy(self, model, name, i, prompt):
        want, margins = prompt["greedy"], prompt["margins"]
        got = self.generate(model, prompt["input_ids"], len(want))["ids"]
        steps = next((k for k, m in enumerate(margins) if m < MARGIN), len(want))
        self.note(got[:steps] == want[:steps] and len(got) == len(want),
                  f"{name} prompt {i} greedy", f"{got[:steps]} instead of {want[:steps]}")

    def smollm2(self, folder, model):
        cases = json.load(open(os.path.join(folder, "chat.json")))
        cases = cases if isinstance(cases, list) else next(v for v in cases.values()
                                                           if isinstance(v, list))
        for i, case in enumerate(cases):
            try:
                self.smollm2_chat(model, i, case)
            except Exception as e:
                self.note(False, f"smollm2 chat {i}", e)
        try:
            self.smollm2_perplexity(folder, model)
        except Exception as e:
            self.note(False, "smollm2 perplexity", e)

    def smollm2_chat(self, model, i, case):
        conversation = json.dumps({"messages": case["messages"], "add_generation_prompt": True})
        made = json.loads(self.run("template", model, "--json", stdin=conversation))
        self.note(made["text"] == case["rendered"], f"smollm2 chat {i} template", made["text"])
        self.note(made["ids"] == case["prompt_ids"], f"smollm2 chat {i} ids", made["ids"])
        want = case["generated_ids"]
        got = self.generate(model, case["prompt_ids"], len(want), "--logprobs", "5")
        for step, expected in enumerate(case["steps"]):
            if expected["margin"] < 0.01:
                break
            if got["ids"][step] != want[step]:
                self.note(False, f"smollm2 chat {i} step {step}", got["ids"])
                return
            tops = dict((a, b) for a, b in got["logprobs"][step]["top"])
            off = max(abs(tops.get(t, -math.inf) - p) for t, p in
                      zip(expected["top5_ids"], expected["top5_logprobs"]) if t in tops)
            if off > 2e-3 or expected["top5_ids"][0] not in tops:
                self.note(False, f"smollm2 chat {i} step {step}", f"log-probabilities off by {off}")
                return
        self.note(True, f"smollm2 chat {i} tokens")

    def smollm2_perplexity(self, folder, model):
        expected = json.load(open(os.path.join(folder, "ppl.json")))
        text = os.path.join(folder, "ppl.txt")

        def perplexity(*more):
            return json.loads(self.run("perplexity", model, "--file", text, "--json", *more))

        exact = perplexity("--compute", "f32")
        off = abs(exact["perplexity"] / expected["perplexity"] - 1)
        self.note(off < 1e-3 and exact["scored"] == expected["scored"], "smollm2 perplexity f32",
                  exact)
        style = expected["llama_perplexity_style"]
        half = perplexity("--compute", "f32", "--window", str(style["n_ctx"]))
        off = abs(half["perplexity"] / style["perplexity"] - 1)
        self.note(off < 1e-3 and half["scored"] == style["scored"], "smollm2 perplexity windows",
                  half)
        fast = perplexity()
        off = abs(fast["perplexity"] / exact["perplexity"] - 1)
        print(f"smollm2 perplexity: reference {expected['perplexity']:.4f}, f32 "
              f"{exact['perplexity']:.4f}, default {fast['perplexity']:.4f}")
        self.note(off < 5e-3, "smollm2 perplexity default within 0.5 % of f32", fast)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--muster", required=True)
    parser.add_argument("--oracle", required=True)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--only", default="", help="only models whose path holds this")
    args = parser.parse_args()
    runner = Runner(args)
    for part in ("1_tiny", "6_quant/checkpoints"):
        folder = os.path.join(args.oracle, part)
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            model = os.path.join(folder, name)
            complete = os.path.exists(os.path.join(model, "expected.safetensors"))
            if args.only in model and complete:
                before = runner.passed, runner.failed
                runner.checkpoint(model, os.path.join(model, "expected.json"),
                                  os.path.join(model, "expected.safetensors"))
                print(f"{part}/{name}: {runner.passed - before[0]} passed, "
                      f"{runner.failed - before[1]} failed")
    folder = os.path.join(args.oracle, "6_quant/gguf")
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        model = os.path.join(folder, name)
        if name.endswith(".gguf") and args.only in model:
            runner.checkpoint(model, model[:-5] + ".expected.json",
                              model[:-5] + ".expected.safetensors")
    folder = os.path.join(args.oracle, "2_smollm2")
    if os.path.isdir(folder) and args.only in folder:
        runner.smollm2(folder, str(fetch.smollm2(args.cache)))
    print(f"{runner.passed} passed, {runner.failed} failed")
    sys.exit(runner.failed != 0)


if __name__ == "__main__":
    main()
