#!/usr/bin/env python3
"""Runs each fuzz target for some seconds and adds the time to bench/results/fuzz.tsv.

    tools/fuzz.py --build DIR --seconds N NAME ...

New inputs grow in DIR/corpus/NAME, beside the committed ones in tests/fuzz/corpus/NAME; one that
crashes is left in DIR and named. Exit status 1 when any target crashed, hung or ate its memory.
"""
import argparse
import datetime
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "bench/results/fuzz.tsv"
COLUMNS = "target\tseconds_total\texecutions_total\tdate_last"


def fuzz(build, name, seconds):
    """(seconds, executions, good) of one run."""
    grown, committed = build / "corpus" / name, ROOT / "tests/fuzz/corpus" / name
    grown.mkdir(parents=True, exist_ok=True)
    corpora = [str(grown)] + ([str(committed)] if committed.is_dir() else [])
    done = subprocess.run(
        [str(build / f"tests/fuzz/fuzz_{name}"), f"-max_total_time={seconds}", "-timeout=10",
         "-rss_limit_mb=2048", "-print_final_stats=1", f"-artifact_prefix={build}/{name}-", *corpora],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT)
    output = done.stdout.decode(errors="replace")
    executions = re.search(r"stat::number_of_executed_units:\s*(\d+)", output)
    finished = re.search(r"Done \d+ runs in (\d+) second", output)
    if done.returncode:
        print("\n".join(output.splitlines()[-60:]))
    return (int(finished[1]) if finished else 0, int(executions[1]) if executions else 0,
            done.returncode == 0)


def add_to_table(name, seconds, executions):
    rows = {}
    if TABLE.exists():
        for line in TABLE.read_text().splitlines()[1:]:
            target, *rest = line.split("\t")
            rows[target] = rest
    before = rows.get(name, ["0", "0", ""])
    rows[name] = [str(int(before[0]) + seconds), str(int(before[1]) + executions),
                  datetime.date.today().isoformat()]
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(COLUMNS + "\n" + "".join(
        "\t".join([target, *row]) + "\n" for target, row in sorted(rows.items())))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True, type=pathlib.Path)
    parser.add_argument("--seconds", required=True, type=int)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    crashed = []
    for name in args.names:
        seconds, executions, good = fuzz(args.build.resolve(), name, args.seconds)
        add_to_table(name, seconds, executions)
        print(f"{'ok' if good else 'FAIL':4}  fuzz/{name:24} {executions:12,} executions {seconds:6} s",
              flush=True)
        crashed += [] if good else [name]
    sys.exit(1 if crashed else 0)


if __name__ == "__main__":
    main()
