#!/usr/bin/env python3
"""muster check, top and validate-perf against a real llama-server, well and in every trouble.

    tests/servers/llama_server.py [WORD ...]    (make servers; WORDs choose the cases by name)

Not part of `make test`: it fetches llama.cpp's source and a small model into the user's cache, builds
llama-server there once (ten minutes of two cores), and takes minutes of a quiet machine. Everything
listens on the loopback alone.
"""
import contextlib
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests/e2e"), str(ROOT / "tests/oracle")]
import fetch  # noqa: E402
import peers  # noqa: E402
from _case import CASES, MUSTER, case, finish  # noqa: E402

CACHE = fetch.user_cache()
CLIENT = ("prometheus_client==0.26.0", "fa93d06737aa02bacd05794768508bb97d2fbee28cb3bca04eaae92f0ca953d6")
LIMIT_S = 31  # of a check, whatever the server does
STATE = tempfile.TemporaryDirectory()
ENV = dict(os.environ, XDG_STATE_HOME=STATE.name, MUSTER_NVML="/nonexistent.so")


def build():
    """llama-server, in a folder beside the one of `make peers`, whose targets it lacks."""
    build = fetch.llamacpp_source(CACHE).parent / f"build-{peers.cpu_kind()}-server"
    program = build / "bin/llama-server"
    if not program.exists():
        print(f"# Building llama-server in {build}: about ten minutes of two cores, once.", file=sys.stderr)
        options = [o for o in peers.CMAKE if "SERVER" not in o]
        peers.run("cmake", "-S", build.parent / "source", "-B", build, *options, "-DLLAMA_BUILD_SERVER=ON",
                  "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF")
        peers.run("cmake", "--build", build, "--target", "llama-server", "--parallel", os.cpu_count() or 1)
    return program


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A llama-server, its log, and what may be done to it."""

    def __init__(self, *words, model=None, port=None, ready=True, memory=None):
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = tempfile.NamedTemporaryFile("r", suffix=".log")
        with open(self.log.name, "w") as out:
            self.process = subprocess.Popen(
                [PROGRAM, "-m", model or MODEL, "--host", "127.0.0.1", "--port", str(self.port), "-t", "1", "-c", "2048",
                 "-np", "2", "--metrics", *words], stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                preexec_fn=memory and (lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory))))
        if ready:
            self.wait_for(lambda: self.health() == 200, "ready")

    def health(self):
        try:
            return urllib.request.urlopen(f"{self.url}/health", timeout=2).status
        except urllib.error.HTTPError as e:
            return e.code
        except OSError:
            return 0

    def wait_for(self, test, what, limit=60):
        end = time.monotonic() + limit
        while not test():
            assert self.process.poll() is None or what == "ended", f"llama-server ended:\n{self.said()}"
            assert time.monotonic() < end, f"never {what}:\n{self.said()}"
            time.sleep(0.005)

    def said(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")

    @contextlib.contextmanager
    def throttled(self, share=0.04):
        """Runs for a part of the time alone, so that an answer takes seconds. Sets `held` to leave it stopped."""
        over, self.held = threading.Event(), False

        def beat():
            while not over.is_set():
                self.process.send_signal(signal.SIGCONT)
                time.sleep(0.1 * share)
                self.process.send_signal(signal.SIGSTOP)
                time.sleep(0.1 * (1 - share))
        thread = threading.Thread(target=beat)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            if not self.held:
                self.process.send_signal(signal.SIGCONT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.log.close()


def start(*words):
    return subprocess.Popen([MUSTER, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV)


def end(process, limit=LIMIT_S):
    out, err = process.communicate(timeout=limit)
    return process.returncode, out, err


def look(*words):
    """(the document of a check, its finding codes); within the time."""
    start_s = time.monotonic()
    status, out, err = end(start("check", "--json", *words))
    assert time.monotonic() - start_s < LIMIT_S
    document = json.loads(out)
    assert status == document["exit_status"], (status, document, err)
    return document, [f["code"] for f in document["findings"]]


# --- one that is well ---------------------------------------------------------------------------

@case
def a_well_server_passes():
    with Server() as server:
        d, codes = look("--url", server.url, "--baseline", "save")
        assert (d["verdict"], d["exit_status"]) == ("good", 0), d
        engine = d["engine"]
        assert engine["kind"] == "llama.cpp" and engine["measured"]["tokens"] >= 24, engine
        assert engine["measured"]["tokens_per_s"] > 1 and engine["reported_tokens_per_s"] > 1, engine
        assert engine["reported"]["generation_tokens"] >= 24 and "waiting" in engine["reported"], engine
        print(f"# {engine['measured']['tokens_per_s']:.1f} tokens/s measured, "
              f"{engine['reported_tokens_per_s']:.1f} reported by llama-server for the last answer")
        status, out, _ = end(start("validate-perf", "--url", server.url, "--log", server.log.name), 120)
        assert status == 0, out
        print("".join(f"#{line}\n" for line in out.splitlines() if "tokens/s" in line), end="")
        for part in ("llama.cpp", "512 tokens again", "4 x 128 tokens at once", "slots                    2", "threads                  1", MODEL.name,
                     "generation_tokens_per_s", "Verdict: healthy"):
            assert part in out, (part, out)
        status, out, _ = end(start("top", "--once", "--url", server.url))
        assert status == 0 and "llama.cpp (reported)  running 0" in out, out


@case
def a_server_that_loads_is_loading():
    for _ in range(5):
        with Server(ready=False) as server:
            server.wait_for(lambda: server.health() in (200, 503), "there")
            d, codes = look("--url", server.url)
        if d["engine"].get("health_http_status") == 503 and d["exit_status"]:
            break
    assert codes[0] == "loading" and d["exit_status"] == 1 and "Loading model" in d["summary"], d


@case
def a_key_is_wanted():
    with Server("--api-key", "s3cret") as server:
        for words in ((), ("--token", "wrong")):
            d, codes = look("--url", server.url, *words)
            assert codes[0] == "unauthorized" and d["exit_status"] == 1, d
        d, _ = look("--url", server.url, "--token", "s3cret")
        assert d["verdict"] == "good" and d["engine"]["kind"] == "llama.cpp" and "s3cret" not in json.dumps(d), d


# --- trouble in the middle of an answer ---------------------------------------------------------

def interrupted(what):
    """The document of a check whose answer was under way when WHAT was done to the server."""
    for share in (0.1, 0.2, 0.3, 0.4, 0.5):  # until there were tokens: machines differ
        with Server() as server:
            with server.throttled(share):
                process = start("check", "--json", "--url", server.url)
                server.wait_for(lambda: "processing task" in server.said(), "asked")
                time.sleep(1)
                server.held = True
                server.process.send_signal(what)
            status, out, _ = end(process)
        d = json.loads(out)
        assert status == d["exit_status"] == 1 and d["seconds"] < 30, d
        if "stops after" in d["summary"]:
            break
    print(f"# {d['summary']}; looked for {d['seconds']:.1f} s")
    return [f["code"] for f in d["findings"]]


@case
def a_server_that_stops_is_stuck():
    assert interrupted(signal.SIGSTOP)[:2] == ["stuck", "health_route_fooled"]


@case
def a_server_that_is_killed_breaks_off():
    assert interrupted(signal.SIGKILL)[:2] == ["broken_off", "health_route_fooled"]


@case
def a_server_without_a_cpu_is_slower_than_its_baseline():
    """On one core that a loop of higher priority keeps busy."""
    cpu = str(max(os.sched_getaffinity(0)))
    with Server() as server:
        assert look("--url", server.url, "--baseline", "save")[0]["exit_status"] == 0
        subprocess.run(["taskset", "-a", "-p", "-c", cpu, str(server.process.pid)], check=True, stdout=subprocess.DEVNULL)
        for task in pathlib.Path(f"/proc/{server.process.pid}/task").iterdir():
            subprocess.run(["renice", "-n", "19", "-p", task.name], check=True, stdout=subprocess.DEVNULL)
        busy = subprocess.Popen(["taskset", "-c", cpu, sys.executable, "-c", "while True: pass"])
        try:
            d, codes = look("--url", server.url)
        finally:
            busy.kill()
            busy.wait()
    assert d["exit_status"] == 1 and codes[0] in ("slow", "slower_than_baseline", "no_answer"), d
    print(f"# {d['summary']}; looked for {d['seconds']:.1f} s")


@case
def a_server_that_is_gone_is_unreachable():
    with Server() as server:
        server.process.terminate()
        server.process.wait()
        d, codes = look("--url", server.url)
        assert d["exit_status"] == 5 and codes[0] == "refused", d
        status, out, _ = end(start("validate-perf", "--url", server.url, "--log", server.log.name))
        assert status == 5, out


# --- starts that fail ---------------------------------------------------------------------------

def diagnosed(*words, **options):
    with Server(*words, ready=False, **options) as server:
        server.wait_for(lambda: server.process.poll() is not None, "ended")
        status, out, _ = end(start("validate-perf", "--json", "--log", server.log.name))
        first = json.loads(out)["first_cause"]
        assert status == 1 and first, server.said()
        return first["cause"], first["text"]


@case
def starts_that_fail_have_their_first_cause():
    with tempfile.TemporaryDirectory() as folder:
        cut, junk = pathlib.Path(folder, "cut.gguf"), pathlib.Path(folder, "junk.gguf")
        with open(MODEL, "rb") as whole:
            cut.write_bytes(whole.read(MODEL.stat().st_size // 2))
        junk.write_bytes(b"not a model" * 1000)
        for model, text in ((cut, "not within the file bounds"), (junk, "invalid magic"), ("/nonexistent", "No such file")):
            cause, line = diagnosed(model=model)
            assert cause == "weights_corrupt" and text in line, (cause, line)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert diagnosed(port=taken.getsockname()[1])[0] == "port_in_use"
    assert diagnosed("-c", "4000000", memory=3 << 30)[0] == "oom_kv"
    assert diagnosed("--no-such-option")[0] == "bad_args"


# --- metrics ------------------------------------------------------------------------------------

@case
def an_export_is_read_by_the_client_of_prometheus():
    folder = pathlib.Path(STATE.name, "client")
    folder.mkdir()
    sys.path.insert(0, str(fetch.download(CLIENT, folder)))
    from prometheus_client import parser
    from prometheus_client.openmetrics import parser as open_parser
    fake = pathlib.Path(MUSTER).resolve().parent / "tests/probe/libnvidia-ml.so.1"
    script = ROOT / "tests/probe/nvml/h100x8"
    process = subprocess.Popen([MUSTER, "top", "--export", "0"], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                               text=True, env=dict(ENV, MUSTER_NVML=str(fake), MUSTER_NVML_FAKE=str(script)))
    try:
        url = process.stderr.readline().split()[3]
        for read, accept in ((parser, "text/plain"), (open_parser, "application/openmetrics-text; version=1.0.0")):
            request = urllib.request.Request(url, headers={"Accept": accept})
            text = urllib.request.urlopen(request, timeout=5).read().decode()
            families = {f.name: f for f in read.text_string_to_metric_families(text)}
            assert len(families["DCGM_FI_DEV_POWER_USAGE"].samples) == 8, families.keys()
            assert families["DCGM_FI_DEV_POWER_USAGE"].samples[0].value == 412
            assert families["process_cpu_seconds"].type == "counter"
    finally:
        process.terminate()
        process.communicate()


if __name__ == "__main__":
    CASES[:] = [c for c in CASES if not sys.argv[1:] or any(word in c.__name__ for word in sys.argv[1:])]
    MODEL = fetch.smollm2(CACHE)
    PROGRAM = build()
    finish()
