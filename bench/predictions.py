#!/usr/bin/env python3
"""Predictions beside measurements on this machine: placements x models x context x streams.

    bench/predictions.py --predict build/bench/predict --models FOLDER... [--seconds 170]

First all costs are timed, in ROUNDS over all cases, and the median of each is kept: none is changed by
what follows. Then each case runs ROUNDS times, in rounds over all of them, and the median of each
figure counts. All this is kept in --kept, so that a call that is ended by --seconds goes on with the
next one; --again forgets it.

A machine that others share is slower at times. Two controls (how fast all cores read memory, and
how fast they multiply) are timed with the costs, and with each run; what the runs' were of the costs'
stands in the table. Prints a Markdown table with the error of each case, then medians, 90th
percentiles and worst against GOALS, of all cases and of those whose controls were within STEADY. Run it
alone on the machine.
"""
import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time

SMOL, Q8, Q4 = "SmolLM2-135M-Instruct.Q4_1.gguf", "s-q8_0.gguf", "s-q4_0.gguf"
B16, B8, B4 = "1b-bf16.gguf", "1b-q8_0.gguf", "1b-q4_0.gguf"
# (model, placement as `muster prove` calls it, streams, context)
CASES = [
    (SMOL, "tp1", 1, 128), (SMOL, "tp1", 4, 128), (SMOL, "tp1", 8, 128), (SMOL, "tp1", 1, 2048),
    (SMOL, "tp1", 8, 2048), (SMOL, "tp1xt1", 1, 128), (SMOL, "tp1xt1", 4, 2048),
    (Q8, "tp1", 1, 128), (Q8, "tp1", 8, 128), (Q8, "tp1", 4, 2048),
    (Q4, "tp1", 1, 128), (Q4, "tp1", 8, 2048),
    (B16, "tp1", 1, 128), (B16, "tp1", 4, 128),
    (B8, "tp1", 1, 128), (B8, "tp1", 8, 128), (B8, "tp1", 1, 2048),
    (B4, "tp1", 1, 128), (B4, "tp1", 4, 128), (B4, "tp1xt1", 1, 128),
    ("synth:nano", "tp1", 1, 128), ("synth:nano", "tp1xt1", 8, 128),
    ("synth:micro", "tp1", 1, 128), ("synth:micro", "tp1", 8, 128),
    (SMOL, "tp2", 1, 128), (SMOL, "tp2", 8, 128), (SMOL, "tp2", 4, 2048),
    (SMOL, "pp2", 1, 128), (SMOL, "pp2", 8, 128), (SMOL, "pp2", 8, 2048),
    (SMOL, "dp2", 4, 128), (SMOL, "dp2", 8, 128), (SMOL, "dp2", 8, 2048),
    (Q8, "tp2", 1, 128), (Q8, "tp2", 4, 128), (Q8, "pp2", 4, 128), (Q8, "dp2", 4, 128),
    (Q4, "tp2", 1, 128), (Q4, "pp2", 4, 128), (Q4, "dp2", 8, 128),
    (B8, "tp2", 1, 128), (B8, "pp2", 4, 128), (B4, "dp2", 4, 128), (B4, "pp2", 4, 128),
    (SMOL, "back2", 1, 128), (SMOL, "split2", 4, 128),
    (SMOL, "offload1", 1, 128), (SMOL, "offload1xt1", 1, 128), (SMOL, "disk1", 1, 128),
    (Q8, "offload1", 4, 128), (B8, "offload1", 1, 128), (B4, "offload1xt1", 1, 128),
    ("synth:micro", "tp2", 1, 128), ("synth:micro", "dp2", 8, 128),
]
ONE = ("tp1", "tp1xt1")
FIGURES = ["decode_tokens_per_s", "prefill_tokens_per_s", "total_bytes"]
ROUNDS, STEADY = 3, 0.08
GOALS = [("decode_tokens_per_s", 50, 10), ("prefill_tokens_per_s", 50, 15),
         ("decode_tokens_per_s", 100, 25), ("prefill_tokens_per_s", 100, 25),
         ("total_bytes", 100, 3)]


def output_of(case):
    """Tokens of an answer: some while the others' prompts are read, and enough to be timed."""
    _, placement, streams, context = case
    chunk = 480 if placement[0] == "t" else 128  # replicas begin apart
    least = 300 if case[0].startswith("synth:") else 40
    return least + math.ceil(streams * context / chunk)


def find(model, folders):
    if model.startswith("synth:"):
        return model
    for folder in folders:
        path = os.path.join(os.path.expanduser(folder), model)
        if os.path.exists(path):
            return path
    return None


def ask(args, case, path, folder, more=()):
    """What build/bench/predict says, with the costs kept in that folder."""
    _, placement, streams, context = case
    command = [args.predict, path, placement, str(streams), str(context), str(output_of(case)),
               *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170,
                          env=dict(os.environ, XDG_CACHE_HOME=os.path.abspath(folder)))
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def median_run(runs):
    """One result of several: the median of each figure, and all that decode was measured at."""
    median = {part: {figure: statistics.median(run[part][figure] for run in runs)
                     for figure in FIGURES} for part in ("measured", "predicted")}
    median["controls"] = [statistics.median(c) for c in zip(*map(controls, runs))]
    median["decode"] = [run["measured"]["decode_tokens_per_s"] for run in runs]
    return median


def controls(run):
    """What the run's controls are of its costs': memory, multiplications."""
    return [now / costs for now, costs in zip(run["control"]["run"], run["control"]["costs"])]


def off(result):
    return max(abs(c - 1) for c in result["controls"])


def percentile(errors, p):
    return sorted(errors)[min(len(errors) - 1, len(errors) * p // 100)] if errors else float("nan")


def error(result, figure):
    return 100 * (result["predicted"][figure] / result["measured"][figure] - 1)


def summary(name, results):
    for figure in FIGURES:
        errors = [abs(error(r, figure)) for r in results]
        print(f"{name}, {len(errors)} cases, {figure}: median {percentile(errors, 50):.1f} %, "
              f"p90 {percentile(errors, 90):.1f} %, worst {percentile(errors, 100):.1f} %")


def report(results):
    print("| model | placement | streams | context | decode tok/s | runs | predicted | error % | "
          "prefill tok/s | predicted | error % | MiB | error % | memory | multiplies |")
    print("|---" * 15 + "|")
    for case, r in results:
        m, p = r["measured"], r["predicted"]
        read, multiplies = r["controls"]
        print(f"| {case[0]} | {case[1]} | {case[2]} | {case[3]} "
              f"| {m['decode_tokens_per_s']:.1f} | {min(r['decode']):.0f}..{max(r['decode']):.0f} "
              f"| {p['decode_tokens_per_s']:.1f} "
              f"| {error(r, 'decode_tokens_per_s'):+.1f} "
              f"| {m['prefill_tokens_per_s']:.0f} | {p['prefill_tokens_per_s']:.0f} "
              f"| {error(r, 'prefill_tokens_per_s'):+.1f} "
              f"| {m['total_bytes'] / 2**20:.1f} | {error(r, 'total_bytes'):+.1f} "
              f"| {read:.2f} | {multiplies:.2f} |")
    print()
    good = True
    summary("one device", [r for c, r in results if c[1] in ONE])
    summary("several devices, or maps", [r for c, r in results if c[1] not in ONE])
    summary("all", [r for _, r in results])
    summary(f"all whose controls were within {100 * STEADY:.0f} %",
            [r for _, r in results if off(r) <= STEADY])
    for figure, p, most in GOALS:
        got = percentile([abs(error(r, figure)) for _, r in results], p)
        good &= got <= most
        print(f"{'met' if got <= most else 'MISSED'}: {figure} p{p} {got:.1f} %, {most} wanted")
    return good


def costs_file(folder):
    return os.path.join(folder, "muster", "costs.tsv")


def merge_costs(folders, out):
    """The median of each figure of several files: lines of a key and its figures, tabs between."""
    figures = {}
    for folder in folders:
        with open(costs_file(folder)) as f:
            for key, *row in (line.rstrip("\n").split("\t") for line in f):
                figures.setdefault(key, []).append([float(x) for x in row])
    os.makedirs(os.path.join(out, "muster"), exist_ok=True)
    with open(costs_file(out), "w") as f:
        for key, rows in figures.items():
            f.write("\t".join([key] + [repr(statistics.median(c)) for c in zip(*rows)]) + "\n")


def time_costs(args, begin, kept, cases):
    """False: time is up."""
    folders = [os.path.join(args.kept, f"round{i}") for i in range(ROUNDS)]
    done = kept.setdefault("timed", [])
    for folder in folders:
        for case, path in cases:
            if [folder, *case[:2]] in done:
                continue
            if out_of_time(args, begin, kept):
                return False
            ask(args, case, path, folder, ["predict"])
            done.append([folder, *case[:2]])
    merge_costs(folders, args.kept)
    return True


def results_file(args):
    return os.path.join(args.kept, "results.json")


def out_of_time(args, begin, kept):
    os.makedirs(args.kept, exist_ok=True)
    with open(results_file(args), "w") as f:
        json.dump(kept, f)
    over = time.time() - begin > args.seconds
    if over:
        print("not all is done: call again", file=sys.stderr)
    return over


def run(args, begin, kept, cases):
    """False: time is up. In rounds, so that the runs of a case are minutes apart."""
    for done in range(ROUNDS):
        for case, path in cases:
            runs = kept.setdefault(str(case), [])
            if len(runs) > done:
                continue
            if out_of_time(args, begin, kept):
                return False
            runs.append(ask(args, case, path, args.kept))
            print(f"{case}: controls {controls(runs[-1])}", file=sys.stderr)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predict", default="build/bench/predict")
    parser.add_argument("--models", nargs="*", default=["~/.cache/muster/models", "/tmp/demo", "/tmp/ld"])
    parser.add_argument("--kept", default="build/predictions", help="a folder")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--only", help="cases whose model's name contains this")
    parser.add_argument("--report", action="store_true", help="what is kept, without running")
    args = parser.parse_args()
    begin = time.time()
    kept = {}
    if args.again:
        shutil.rmtree(args.kept, ignore_errors=True)
    if os.path.exists(results_file(args)):
        with open(results_file(args)) as f:
            kept = json.load(f)
    cases = [(c, find(c[0], args.models)) for c in CASES if not args.only or args.only in c[0]]
    for case, path in cases:
        if path is None:
            print(f"left out: {case[0]} is not in {' '.join(args.models)}", file=sys.stderr)
    cases = [(c, p) for c, p in cases if p]
    if not args.report:
        if not time_costs(args, begin, kept, cases):  # all before anything is judged
            return
        if not run(args, begin, kept, cases):
            return
        out_of_time(args, begin, kept)
    good = report([(c, median_run(kept[str(c)])) for c, _ in cases if kept.get(str(c))])
    sys.exit(not good)


if __name__ == "__main__":
    main()
