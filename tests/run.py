#!/usr/bin/env python3
"""Runs what was built: unit tests, corpus replays and end-to-end scripts.

    tests/run.py [--build DIR] [--jobs N] [--timeout S] [WORD ...]

WORDs choose the programs whose name contains one of them. A program that prints TAP (cmocka's does)
is counted test by test; another one counts as one test: 0 passed, 77 skipped, anything else failed.
A crash, a timeout, or a plan that was not finished is a failure. Failures are printed in full.

    tests/run.py --oracle DIR [--build DIR]    the runners of tests/oracle instead (see its README)
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

TESTS = pathlib.Path(__file__).resolve().parent
ROOT = TESTS.parent
SKIPPED = 77


class Result:
    def __init__(self, name):
        self.name, self.passed, self.failed, self.skipped = name, 0, 0, 0
        self.output, self.seconds = "", 0.0

    def line(self):
        word = "FAIL" if self.failed else "ok" if self.passed else "skip"
        counts = f"{self.passed} passed"
        counts += f", {self.failed} failed" if self.failed else ""
        counts += f", {self.skipped} skipped" if self.skipped else ""
        return f"{word:4}  {self.name:40} {counts:28} {self.seconds:6.1f} s"


def count_tap(result, output):
    """Counts TAP lines; False when there are none."""
    plan = re.findall(r"^1\.\.(\d+)", output, re.M)
    lines = re.findall(r"^(ok|not ok)\b(.*)", output, re.M)
    if not plan:
        return False
    for verdict, rest in lines:
        if re.search(r"#\s*skip", rest, re.I):
            result.skipped += 1
        elif verdict == "ok":
            result.passed += 1
        else:
            result.failed += 1
    missing = sum(map(int, plan)) - len(lines)
    if missing:
        result.failed += abs(missing)
        result.output += f"the plan was {sum(map(int, plan))} tests, {len(lines)} reported\n"
    return True


def count_last_line(result, output):
    """Counts 'N passed, N failed[, N skipped]' at the end, as the oracle runners print it."""
    last = output.strip().rpartition("\n")[2]
    found = re.fullmatch(r"(\d+) passed, (\d+) failed(?:, (\d+) skipped)?", last)
    if not found:
        return False
    result.passed, result.failed = int(found[1]), int(found[2])
    result.skipped = int(found[3] or 0)
    return True


def run_program(name, command, timeout, build):
    result = Result(name)
    with tempfile.TemporaryDirectory(prefix="muster-test-") as scratch:
        env = dict(os.environ,
                   MUSTER_TESTS=str(TESTS), MUSTER=str(build / "muster"), TMPDIR=scratch,
                   XDG_CONFIG_HOME=scratch, XDG_DATA_HOME=scratch, XDG_STATE_HOME=scratch,
                   CMOCKA_MESSAGE_OUTPUT="TAP",
                   ASAN_OPTIONS="detect_leaks=1:allocator_may_return_null=1",
                   UBSAN_OPTIONS="print_stacktrace=1", TSAN_OPTIONS="halt_on_error=1:allocator_may_return_null=1")
        start = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        try:
            output, end = process.communicate(timeout=timeout)[0], None
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, end = process.communicate()[0], f"no end after {timeout} s"
        result.seconds = time.monotonic() - start
    output = output.decode(errors="replace")
    result.output = output if output.endswith("\n") or not output else output + "\n"
    counted = count_tap(result, output) or count_last_line(result, output)
    code = process.returncode
    if code == SKIPPED and not end and not counted:
        result.skipped = 1
    elif end or code < 0 or (code and not result.failed):
        end = end or (f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}")
        result.output += end + "\n"
        result.failed += 1
    elif not counted:
        result.passed = 1
    return result


def programs(build):
    """(name, command) of everything there is to run."""
    found = []
    for source in sorted(TESTS.glob("*/test_*.c")):
        name = f"{source.parent.name}/{source.stem}"
        found.append((name, [str(build / "tests" / name)]))
    for source in sorted(TESTS.glob("fuzz/fuzz_*.c")):
        name = source.stem.removeprefix("fuzz_")
        corpus = TESTS / "fuzz/corpus" / name
        if corpus.is_dir():
            found.append((f"fuzz/{name}", [str(build / f"tests/fuzz/replay_{name}"), str(corpus)]))
    for script in sorted(TESTS.glob("e2e/[!_]*")):
        if script.suffix in (".sh", ".py"):
            found.append((f"e2e/{script.name}", ["sh" if script.suffix == ".sh" else "python3", str(script)]))
    return found


def oracle_programs(build, oracle):
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "muster"
    return [(f"oracle/{script.stem}",
             ["python3", str(script), "--muster", str(build / "muster"), "--oracle", oracle,
              "--cache", str(cache)])
            for script in sorted(TESTS.glob("oracle/*.py")) if script.stem != "fetch"]


def main():
    parser = argparse.ArgumentParser(description="runs muster's tests")
    parser.add_argument("--build", default="build/checks")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=int, default=0, help="seconds for one program")
    parser.add_argument("--oracle")
    parser.add_argument("words", nargs="*")
    args = parser.parse_args()
    if args.oracle == "":
        sys.exit("make oracle ORACLE=folder: the folder that holds the expected results")
    build = (ROOT / args.build).resolve()
    timeout = args.timeout or (3600 if args.oracle else 300)
    chosen = oracle_programs(build, args.oracle) if args.oracle else programs(build)
    chosen = [p for p in chosen if not args.words or any(word in p[0] for word in args.words)]
    if not chosen:
        sys.exit("no such test")
    results = []
    with concurrent.futures.ThreadPoolExecutor(1 if args.oracle else args.jobs) as pool:
        waiting = [pool.submit(run_program, name, command, timeout, build) for name, command in chosen]
        for future in concurrent.futures.as_completed(waiting):
            results.append(future.result())
            print(results[-1].line(), flush=True)
    for result in results:
        if result.failed:
            print(f"\n---- {result.name}\n{result.output}", end="")
    passed, failed, skipped = (sum(getattr(r, k) for r in results) for k in ("passed", "failed", "skipped"))
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
