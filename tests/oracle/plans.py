#!/usr/bin/env python3
"""Plans against measured engines and against AIConfigurator's predictions: ORACLE/9_plan.

Drives `muster plan NAME@TYPE --on HW --engine E --batch B --input I --output O --tp T --json` for each
trusted row of silicon_measured_dev.tsv, prints the errors as tables, and counts as one case each goal
of GOALS. Rows whose id hashes to 0 modulo 3 were held aside when share/engines.tsv was fitted. Ends
with 'N passed, N failed'.
"""
import argparse
import collections
import concurrent.futures
import csv
import hashlib
import json
import os
import subprocess
import sys

MODELS = {  # the oracle's names -> share/models.tsv
    "Qwen/Qwen3-32B": "qwen3-32b",
    "meta-llama/Llama-3.1-70B": "llama-3.1-70b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "openai/gpt-oss-120b": "gpt-oss-120b",
    "Qwen2.5-Coder-32B": "qwen2.5-coder-32b",
}
# (engine, figure, percentile, most allowed) of rows fitted and held aside alike.
GOALS = [("vllm", "tpot", 50, 10), ("vllm", "tpot", 90, 30), ("vllm", "ttft", 50, 30),
         ("sglang", "tpot", 50, 15), ("trtllm", "tpot", 50, 15)]
FITS_AGREE = 97  # percent


def rows_of(path):
    with open(path) as f:
        return list(csv.DictReader((line for line in f if line[0] != "#"), delimiter="\t"))


def number(text):
    return float(text) if text else None


def trusted(row):
    ttft = number(row["meas_ttft_ms"])
    return (number(row["batch"]) == number(row["client_concurrency"]) and ttft and ttft < 5000
            and not number(row["aic_oom"]) and not number(row["aic_kv_oom"])
            and "Llama-3.1-8B-Instruct-FP8" not in row["model_path"])


def held(row):
    return int(hashlib.sha256(row["id"].encode()).hexdigest(), 16) % 3 == 0


def weights_of(row):
    if "gpt-oss" in row["model_path"]:
        return "mxfp4"
    return {"": "bf16", "fp8": "fp8", "fp4": "nvfp4"}[row["precision"]]


def plan(muster, model, system, engine, tp, pp, batch, inputs, outputs):
    command = [muster, "plan", model, "--on", f"{tp * pp}x{system}", "--engine", engine, "--tp",
               str(tp), "--pp", str(pp), "--dp", "1", "--batch", str(batch), "--input",
               str(inputs), "--output", str(outputs), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if not done.stdout:
        raise RuntimeError(" ".join(command) + ": " + done.stderr.strip())
    return json.loads(done.stdout)["candidates"][0]


def measured(muster, row):
    candidate = plan(muster, MODELS[row["model_path"]] + "@" + weights_of(row), row["system"],
                     row["backend"], int(row["tp"]), int(row["pp"]), int(float(row["batch"])),
                     int(row["isl"]), int(row["osl"]))
    return row, candidate["predicted"]


def percentile(errors, p):
    return sorted(errors)[min(len(errors) - 1, len(errors) * p // 100)] if errors else float("nan")


class Errors:
    """Relative errors in percent of TPOT and TTFT, ours and AIConfigurator's."""

    def __init__(self):
        self.of = collections.defaultdict(list)
        self.signed = collections.defaultdict(list)

    def add(self, row, predicted):
        for figure in ("tpot", "ttft"):
            real, theirs = number(row[f"meas_{figure}_ms"]), number(row[f"aic_{figure}_ms"])
            ours = 100 * (predicted[f"{figure}_ms"] / real - 1)
            self.of[figure].append(abs(ours))
            self.signed[figure].append(ours)
            if theirs:
                self.of["aic_" + figure].append(100 * abs(theirs / real - 1))

    def line(self, name):
        cells = [f"{percentile(self.of[k], p):6.1f}" for k in ("tpot", "aic_tpot", "ttft", "aic_ttft")
                 for p in (50, 90)]
        bias = f"{percentile(self.signed['tpot'], 50):+6.1f} {percentile(self.signed['ttft'], 50):+6.1f}"
        return f"{name:46} {len(self.of['tpot']):4} {' '.join(cells)}  {bias}"


def silicon(args, note):
    rows = [r for r in rows_of(os.path.join(args.folder, "silicon_measured_dev.tsv")) if trusted(r)]
    groups = collections.defaultdict(Errors)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for row, predicted in pool.map(lambda r: measured(args.muster, r), rows):
            part = "held" if held(row) else "fitted"
            groups[row["backend"], part].add(row, predicted)
            model = MODELS[row["model_path"]] + "@" + weights_of(row)
            groups[row["backend"], f"{row['system']} {model} tp{row['tp']}"].add(row, predicted)
    print("measured rows, error in percent: median and 90th percentile, ours and AIConfigurator's")
    print(f"{'':46} {'rows':>4} {'TPOT':>6} {'p90':>6} {'aic':>6} {'p90':>6} {'TTFT':>6} {'p90':>6} "
          f"{'aic':>6} {'p90':>6}  {'bias':>6} {'bias':>6}")
    for name in sorted(groups, key=lambda k: (k[0], len(k[1]) > 6, k[1])):
        print(groups[name].line(" ".join(name)))
    for engine, figure, p, most in GOALS:
        for part in ("fitted", "held"):
            got = percentile(groups[engine, part].of[figure], p)
            note(got <= most, f"{engine} {figure} p{p} {part}", f"{got:.1f} %, {most} allowed")


def oracle_model(row):
    weight = {"bf16": "bf16", "fp8": "fp8", "nvfp4": "nvfp4", "mxfp4": "mxfp4"}[row["weight"]]
    return MODELS.get(row["model"], row["model"].lower()) + "@" + weight


def fits(args, note):
    rows = rows_of(os.path.join(args.folder, "plan_oracle_dev.tsv"))
    agree, off = 0, collections.defaultdict(list)

    def ask(row):
        tp, pp, batch = int(row["tp"]), int(row["pp"]), int(row["batch"])
        return row, plan(args.muster, oracle_model(row), row["system"], row["backend"], tp, pp,
                         batch * pp, int(row["isl"]), int(row["osl"]))

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for row, c in pool.map(ask, rows):
            same = c["fits"] == (row["fits"] == "1")
            agree += same
            memory = c["devices"][0]
            if args.verbose and not same:
                print(f"fits {c['fits']}: {row['system']} {row['backend']} {row['model']} "
                      f"{row['weight']} tp{row['tp']} pp{row['pp']} b{row['batch']} "
                      f"{memory['total_bytes'] / 2**30:.1f} of {memory['budget_bytes'] / 2**30:.1f}, "
                      f"theirs {row['mem_gib']}")
            off["weights"].append(100 * abs(memory["weights_bytes"] / 2**30 /
                                            float(row["mem_weights_gib"]) - 1))
            if row["pp"] == "1":
                off["tpot"].append(100 * abs(c["predicted"]["tpot_ms"] / float(row["tpot_ms"]) - 1))
    share = 100 * agree / len(rows)
    print(f"\nAIConfigurator's predictions, {len(rows)} rows: fits agrees in {share:.1f} %, weights "
          f"differ by {percentile(off['weights'], 50):.1f} % (median), TPOT at pp 1 by "
          f"{percentile(off['tpot'], 50):.1f} %")
    note(share >= FITS_AGREE, "fits agrees", f"{share:.1f} %, {FITS_AGREE} wanted")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--muster", required=True)
    parser.add_argument("--oracle", required=True)
    parser.add_argument("--cache")
    parser.add_argument("--verbose", action="store_true", help="also the rows that disagree on fits")
    args = parser.parse_args()
    args.folder = os.path.join(args.oracle, "9_plan")
    if not os.path.isdir(args.folder):
        print("0 passed, 0 failed, 1 skipped")
        return
    verdicts = []

    def note(ok, name, detail):
        verdicts.append(ok)
        if not ok:
            print(f"FAIL {name}: {detail}")

    silicon(args, note)
    fits(args, note)
    print(f"{sum(verdicts)} passed, {len(verdicts) - sum(verdicts)} failed")
    sys.exit(not all(verdicts))


if __name__ == "__main__":
    main()
