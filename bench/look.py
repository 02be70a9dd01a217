#!/usr/bin/env python3
"""Times what looking costs: the sampler, and reading logs. Prints the tables of bench/results/DATE-look.md.

    bench/look.py [--build build] [--seconds 30] [--megabytes 1000]

The driver is the tests' own, which answers at once: what is measured is muster. The log is that of a
vLLM server at work, lines as it writes them with figures drawn by chance; and the incidents of the
tests, over and over, in which nearly every line means something.
"""
import argparse
import os
import pathlib
import random
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROBE = ROOT / "tests/probe/nvml"


def sampler(build, script, seconds):
    env = dict(os.environ, MUSTER_NVML=str(build / "checks/tests/probe/libnvidia-ml.so.1"), MUSTER_NVML_FAKE=str(script))
    return subprocess.run([build / "bench/sampler", str(seconds)], env=env, capture_output=True, text=True, check=True).stdout


def busy_line(i, draw):
    clock = f"INFO 05-09 {i // 3600 % 24:02d}:{i // 60 % 60:02d}:{i % 60:02d}"
    kind = draw.random()
    if kind < 0.15:
        return (f"{clock} [loggers.py:127] Engine 000: Avg prompt throughput: {draw.random() * 900:.1f} tokens/s, Avg generation "
                f"throughput: {draw.random() * 400:.1f} tokens/s, Running: {draw.randint(0, 60)} reqs, Waiting: 0 reqs, GPU KV "
                f"cache usage: {draw.random() * 80:.1f}%, Prefix cache hit rate: {draw.random() * 50:.1f}%\n")
    if kind < 0.6:
        return f'INFO:     10.0.0.{draw.randint(0, 255)}:{draw.randint(1024, 65000)} - "POST /v1/chat/completions HTTP/1.1" 200 OK\n'
    return (f"{clock} [async_llm.py:261] Added request chatcmpl-{draw.getrandbits(128):032x}. prompt of "
            f"{draw.randint(10, 4000)} tokens with parameters SamplingParams(n=1, temperature=0.7, max_tokens=512)\n")


def log_made(path, block, total):
    with open(path, "wb") as out:
        for _ in range(max(1, total // len(block))):
            out.write(block)
    return os.path.getsize(path)


def log_timed(build, path):
    """Seconds of the best of three."""
    took = []
    for _ in range(3):
        start = time.monotonic()
        subprocess.run([build / "muster", "validate-perf", "--log", path], stdout=subprocess.DEVNULL)
        took.append(time.monotonic() - start)
    return min(took)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--megabytes", type=int, default=1000)
    args = parser.parse_args()
    print("## The sampler\n\n```")
    print(sampler(args.build, "/dev/null", args.seconds) + sampler(args.build, PROBE / "h100x8", args.seconds), end="")
    print("```\n\n## Logs\n\n| log | MB | seconds | MB/s |\n|---|---|---|---|")
    draw = random.Random(1)
    busy = "".join(busy_line(i, draw) for i in range(200000)).encode()
    incidents = b"".join(p.read_bytes() for p in sorted((ROOT / "tests/golden/logs/incidents").iterdir()))
    with tempfile.TemporaryDirectory() as folder:
        for name, block, total in (("a server at work", busy, args.megabytes * 1000000),
                                   ("incidents, over and over", incidents, args.megabytes * 100000)):
            path = f"{folder}/log"
            size = log_made(path, block, total)
            seconds = log_timed(args.build, path)
            print(f"| {name} | {size / 1e6:.0f} | {seconds:.2f} | {size / 1e6 / seconds:.0f} |")


if __name__ == "__main__":
    main()
