#!/usr/bin/env python3
"""Two devices of one core each against one: what a second device is worth, model by model.

    bench/scaling.py --predict build/bench/predict MODEL... [--only tp2,pp2]

Every case runs on one device, then on two under each placement. Beside it stands its own limit: two
programs with one device each, which share nothing but the machine, at the same time. Virtual cores may
be threads of one real core, and then even those do not get twice as much. Prints Markdown tables, a row
as soon as it is known. Run it alone on the machine: a case of a billion weights takes up to a minute.
"""
import argparse
import json
import os
import subprocess

PLACEMENTS = ["tp2", "pp2", "dp2"]
# What is asked: streams, tokens in, tokens out; what is read off it, and how that is called.
CASES = [(1, 512, 40, (("prefill_tokens_per_s", "prefill, one prompt of 512"),
                       ("decode_tokens_per_s", "decode, 1 stream after 512"))),
         (2, 512, 40, (("prompts_tokens_per_s", "prefill, two prompts of 512"),
                       ("decode_tokens_per_s", "decode, 2 streams after 512"))),
         (8, 64, 60, (("decode_tokens_per_s", "decode, 8 streams after 64"), )),
         (1, 2048, 12, (("prefill_tokens_per_s", "prefill, one prompt of 2,048"), ))]


def ask(predict, model, placement, case, programs=1):
    """What each of so many programs measured that ran at once."""
    command = [predict, model, f"{placement}xt1", *map(str, case[:3]), "measure"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(programs)]
    told = [process.communicate(timeout=170)[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit(" ".join(command) + " failed")
    return [json.loads(text) for text in told]


def rates(results, case):
    return {key: sum(r["measured"][key] for r in results) for key, _ in case[3]}


def row(args, model, names, case):
    one, both = (rates(ask(args.predict, model, "tp1", case, n), case) for n in (1, 2))
    # A copy of the model does nothing for one request alone.
    two = {name: rates(ask(args.predict, model, name, case), case)
           if case[0] > 1 or name != "dp2" else {} for name in names}
    for key, what in case[3]:
        found = [two[name].get(key) for name in names]
        told = " | ".join(f"{f:.1f} | {f / one[key]:.2f}" if f else "- | -" for f in found)
        print(f"| {what} | {one[key]:.1f} | {both[key] / one[key]:.2f} | {told} |", flush=True)


def table(args, model):
    names = args.only.split(",")
    print(f"\n**{os.path.basename(model)}**\n")
    print("| work | one device | two programs, times | " + " | ".join(f"{n} | times" for n in names) + " |")
    print("|---|---|---|" + "---|---|" * len(names))
    for case in CASES:
        row(args, model, names, case)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    parser.add_argument("--predict", default="build/bench/predict")
    parser.add_argument("--only", default=",".join(PLACEMENTS))
    args = parser.parse_args()
    for model in args.models:
        table(args, os.path.expanduser(model))


main()
