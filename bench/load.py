#!/usr/bin/env python3
"""Times the loading of models from the page cache, packing included, and holds the peak of resident
memory against what was predicted. Beside it stands what the system itself takes to give so much memory,
touched for the first time by two threads: no program that packs can be faster. A virtual machine's host
may first have to find such memory; so each load is followed by another at once, which gets the pages that
the first gave back: "again". Prints a table as bench/results/ keeps them.

    bench/load.py [--muster BIN] [--times N] [--devices LIST] [--weights TYPE] MODEL...

A MODEL is a file or folder on disk; it is read once beforehand, so that the disk is not timed."""
import argparse
import concurrent.futures
import ctypes
import json
import mmap
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def read_through(model):
    """The size of the weights' files, which are in the page cache afterwards."""
    path = pathlib.Path(model)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    for file in files:
        with open(file, "rb") as f:
            while f.read(1 << 24):
                pass
    return sum(file.stat().st_size for file in files)


def load(args, model):
    """(seconds, peak of resident memory, predicted memory)"""
    command = [args.muster, "generate", model, "--tokens", "1", "-n", "1", "--greedy", "--ignore-eos",
               "--json", "--context", "64", "--devices", args.devices]
    command += ["--weights", args.weights] if args.weights else []
    with tempfile.TemporaryFile() as out:
        pid = subprocess.Popen(command, stdout=out).pid
        _, status, usage = os.wait4(pid, 0)
        if status:
            sys.exit(f"muster failed on {model}")
        out.seek(0)
        answer = json.load(out)
    predicted = sum(d["total_bytes"] for d in answer["predicted"]["devices"])
    return answer["measured"]["load_seconds"], usage.ru_maxrss * 1024, predicted


def touch(n_bytes):
    """Prints the seconds until so many fresh bytes were written once, in large pages, by two threads."""
    with mmap.mmap(-1, n_bytes) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        first = ctypes.c_char.from_buffer(memory)
        half = n_bytes // 2
        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda at: ctypes.memset(ctypes.addressof(first) + at, 1, half), (0, half)))
        seconds = time.monotonic() - begin
        del first
    print(seconds)


def touch_elsewhere(n_bytes):
    """In a process of its own: a child's peak of memory begins with what its parent holds."""
    return float(subprocess.check_output([sys.executable, __file__, "--touch", str(n_bytes), "-"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--muster", default=str(ROOT / "build/muster"))
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--devices", default="cpu")
    parser.add_argument("--weights")
    parser.add_argument("--touch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    args = parser.parse_args()
    if args.touch:
        return touch(args.touch)
    sizes = {model: read_through(model) for model in args.models}
    runs = {model: [] for model in args.models}
    for _ in range(args.times):
        for model in args.models:
            fresh, again = load(args, model), load(args, model)
            runs[model].append((*fresh, touch_elsewhere(fresh[2]), again[0]))
    print(f"{'model':36} {'GB':>6} {'seconds':>8} {'GB/s':>6} {'touch s':>8} {'again s':>8} {'GB/s':>6} {'peak MiB':>9} "
          f"{'predicted':>9} {'ratio':>6}")
    for model in args.models:
        seconds = statistics.median(run[0] for run in runs[model])
        fresh, again = (statistics.median(run[i] for run in runs[model]) for i in (3, 4))
        peak, predicted = max(run[1] for run in runs[model]), runs[model][0][2]
        print(f"{pathlib.Path(model).name:36} {sizes[model] / 1e9:6.2f} {seconds:8.3f} "
              f"{sizes[model] / 1e9 / seconds:6.2f} {fresh:8.3f} "
              f"{again:8.3f} {sizes[model] / 1e9 / again:6.2f} {peak / 2**20:9.0f} {predicted / 2**20:9.0f} "
              f"{peak / predicted:6.2f}")


if __name__ == "__main__":
    main()
