"""muster check against engines that fail in every way they do, on the loopback."""
import contextlib
import gzip
import json
import os
import pathlib
import re
import signal
import socket
import socketserver
import sqlite3
import subprocess
import tempfile
import threading
import time

from _case import MUSTER, ROOT, Skip, case, finish
from concurrent.futures import ThreadPoolExecutor

FAKES = pathlib.Path(MUSTER).resolve().parent / "tests/probe"
NO_DRIVER = {"MUSTER_NVML": "/nonexistent.so"}


def driver(script):
    if not (FAKES / "libnvidia-ml.so.1").exists():
        raise Skip("the scripted driver was not built")
    return {"MUSTER_NVML": str(FAKES / "libnvidia-ml.so.1"),
            "MUSTER_NVML_FAKE": str(ROOT / "tests/probe/nvml" / script)}


# --- servers ------------------------------------------------------------------------------------

MODELS = json.dumps({"object": "list", "data": [{"id": "small", "object": "model"}]})
METRICS = 'vllm:num_requests_running{model="small"} 2.0\nvllm:kv_cache_usage_perc{model="small"} 0.25\n'


class Handler(socketserver.BaseRequestHandler):
    """One request a connection; the server's `mode` answers what is asked for tokens."""

    def handle(self):
        with contextlib.suppress(OSError):
            self.request.settimeout(30)
            data = b""
            while b"\r\n\r\n" not in data:
                piece = self.request.recv(65536)
                if not piece:
                    return
                data += piece
            head, _, body = data.partition(b"\r\n\r\n")
            length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n")
                           if line.lower().startswith(b"content-length")), 0)
            while len(body) < length:
                body += self.request.recv(65536)
            self.path = head.split()[1].decode()
            self.head = head.decode(errors="replace")
            self.body = json.loads(body) if body else None
            self.server.mode(self)

    def send(self, text):
        self.request.sendall(text if isinstance(text, bytes) else text.encode())

    def answer(self, text, status=200, kind="application/json"):
        self.send(f"HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\nContent-Length: {len(text.encode())}\r\n"
                  f"Connection: close\r\n\r\n{text}")

    def begin_stream(self):
        self.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

    def event(self, data):
        text = data if isinstance(data, str) else json.dumps(data)
        piece = f"data: {text}\n\n".encode()
        self.send(b"%x\r\n%s\r\n" % (len(piece), piece))

    def end_stream(self, done=True):
        if done:
            self.event("[DONE]")
        self.send("0\r\n\r\n")

    def word(self, path="/v1/completions"):
        choice = {"index": 0, "text": " one"} if path == "/v1/completions" else {"index": 0, "delta": {"content": " two"}}
        self.event({"choices": [choice]})

    def side_routes(self):
        """Health, models and metrics as a well engine has them; True when that was it."""
        if self.path == "/health":
            self.answer("")
        elif self.path == "/v1/models":
            self.answer(MODELS)
        elif self.path == "/metrics":
            self.answer(METRICS, kind="text/plain")
        else:
            return False
        return True


def well(h, pause=0.01, usage=None):
    if h.side_routes():
        return
    if h.path != "/v1/completions":
        return h.answer("{}", 404)
    assert h.body["model"] == "small" and h.body["stream"] and h.body["max_tokens"] > 1
    h.begin_stream()
    for _ in range(h.body["max_tokens"]):
        h.word()
        time.sleep(pause if h.body["max_tokens"] < 100 else 0.002)
    if usage:
        h.event({"choices": [], "usage": {"completion_tokens": usage}})
    h.end_stream()


def chat_only(h):
    if h.side_routes():
        return
    if h.path != "/v1/chat/completions":
        return h.answer('{"detail":"Not Found"}', 404)
    h.begin_stream()
    for _ in range(24):
        h.word(h.path)
        time.sleep(0.01)
    h.end_stream()


def sglang(h):
    if h.path != "/generate":
        return h.answer("sglang:num_running_reqs 1.0\n" if h.path == "/metrics" else "", 200 if h.path != "/v1/completions"
                        and h.path != "/v1/chat/completions" else 404, "text/plain")
    h.begin_stream()
    for i in range(24):
        h.event({"text": "ab" * (i + 1), "meta_info": {"completion_tokens": i + 1}})
        time.sleep(0.01)
    h.end_stream()


def llama_server(h):
    if h.path != "/completion":
        return h.answer("llamacpp:requests_processing 1\n" if h.path == "/metrics" else "{}",
                        404 if h.path.startswith("/v1/c") or h.path == "/generate" else 200, "text/plain")
    h.begin_stream()
    for _ in range(24):
        h.event({"content": " one", "stop": False})
        time.sleep(0.01)
    h.event({"content": "", "stop": True, "tokens_predicted": 24})
    h.end_stream(done=False)


def not_streaming(h):
    if not h.side_routes():
        h.answer(json.dumps({"choices": [{"text": "a b c"}], "usage": {"completion_tokens": 24}}))


def healthy_but_dead(h):
    """The scheduler died behind a health route that goes on answering."""
    if not h.side_routes():
        time.sleep(25)


def slow(h):
    well(h, pause=1.5)


def stuck(h):
    if h.side_routes():
        return
    h.begin_stream()
    for _ in range(5):
        h.word()
    time.sleep(25)


def wrong_json(h):
    if not h.side_routes():
        h.answer('{"choices": [{"text": "a"')


def web_page(h):
    h.answer("<!DOCTYPE html><html><body>Welcome to nginx!</body></html>", kind="text/html")


def never_answers(h):
    time.sleep(25)


def one_byte_a_second(h):
    text = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 4000\r\n\r\n" + "data: " + "x" * 900
    if h.side_routes():
        return
    h.send(text[:90])
    for c in text[90:120]:
        h.send(c)
        time.sleep(1)


def status(code, text="{}"):
    def mode(h):
        h.answer(text, code)
    return mode


def resets(h):
    h.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    h.request.close()


def breaks_off(h):
    if h.side_routes():
        return
    h.begin_stream()
    h.word()
    h.word()
    h.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    h.request.close()


def empty_stream(h):
    if not h.side_routes():
        h.begin_stream()
        h.end_stream()


def error_in_the_stream(h):
    if not h.side_routes():
        h.begin_stream()
        h.event({"error": {"message": "CUDA out of memory\x1b[31m", "code": 500}})
        h.end_stream()


def tokens_then(*events, n=3, done=True, text=" one", pause=0.01):
    """Tokens, and then events that end the answer in some way."""
    def mode(h):
        if h.side_routes():
            return
        if h.path != "/v1/completions":
            return h.answer("{}", 404)
        h.begin_stream()
        for _ in range(n):
            h.event({"choices": [{"index": 0, "text": text, "finish_reason": None}]})
            time.sleep(pause)
        for event in events:
            h.event(event)
        h.end_stream(done=done)
    return mode


def finished(reason):
    return {"choices": [{"index": 0, "text": "", "finish_reason": reason}]}


def all_at_once(h):
    """A stream that something on the way held back until it was whole."""
    if not h.side_routes():
        event = 'data: {"choices":[{"text":" one","finish_reason":null}]}\n\n'
        h.answer(event * 24 + "data: [DONE]\n\n", kind="text/event-stream")


def closes_early(h):
    """No chunks, no length: the end of the connection is the end of the answer."""
    if not h.side_routes():
        h.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for _ in range(3):
            h.send('data: {"choices":[{"text":" one"}]}\n\n')


DIED = {"error": {"message": "EngineCore encountered an issue\x1b[31m", "code": 500}}


def endless(h):
    if not h.side_routes():
        h.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        for _ in range(200):
            h.send(b"x" * 65536)


def header_of(lines, length):
    """A header without an end: of many lines, or of a long one."""
    def mode(h):
        h.send("HTTP/1.1 200 OK\r\n")
        for _ in range(lines):
            h.send(b"X-Line: " + b"x" * length + b"\r\n")
        h.send("\r\n")
    return mode


def rubbish_bytes(h):
    h.send(bytes(range(256)) * 20)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


@contextlib.contextmanager
def serving(mode):
    with Server(("127.0.0.1", 0), Handler) as server:
        server.mode = mode
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def check(*words, env=None, limit=31, **more):
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as data:
        done = subprocess.run([MUSTER, "check", *words], capture_output=True, text=True, timeout=60,
                              env=dict(os.environ, **dict({"XDG_DATA_HOME": data}, **(env or NO_DRIVER))), **more)
    seconds = time.monotonic() - start
    assert seconds < limit, seconds
    return done


def look(mode, *words, env=None):
    with serving(mode) as url:
        done = check("--url", url, "--json", *words, env=env)
    document = json.loads(done.stdout)
    assert done.returncode == document["exit_status"], (done.returncode, document)
    has_pages(document)
    return document


def has_pages(document):
    """Each finding has a page, with a heading of its own there."""
    for finding in document["findings"]:
        path, _, heading = finding["page"].partition("#")
        assert heading == finding["code"] and f"\n## {heading}\n" in (ROOT / path).read_text(), finding


def codes(document):
    return [f["code"] for f in document["findings"]]


# --- cases --------------------------------------------------------------------------------------

@case
def well_engines_of_all_kinds_pass():
    for mode, kind in ((well, "vllm"), (chat_only, "vllm"), (sglang, "sglang"), (llama_server, "llama.cpp"),
                       (not_streaming, "vllm")):
        d = look(mode)
        assert (d["verdict"], d["exit_status"]) == ("good", 0), (mode, d)
        assert d["engine"]["kind"] == kind, d["engine"]
        assert mode == not_streaming or d["engine"]["measured"]["tokens_per_s"] > 10, d["engine"]
    d = look(lambda h: well(h, usage=48))
    assert d["engine"]["measured"]["tokens"] == 3 * 48 and d["engine"]["model"] == "small"
    assert d["engine"]["reported"]["running"] == 2 and d["engine"]["reported"]["kv_usage_ratio"] == 0.25


FAILURES = [
    # mode, exit status, the code of the finding
    (healthy_but_dead, 1, "no_answer"), (slow, 1, "slow"), (stuck, 1, "stuck"), (wrong_json, 1, "bad_json"),
    (web_page, 1, "html"), (never_answers, 5, "no_answer"), (one_byte_a_second, 1, "slow"),
    (status(401), 1, "unauthorized"), (status(403), 1, "forbidden"), (status(404), 1, "no_route"),
    (status(503), 1, "loading"), (status(500, '{"error":{"message":"boom"}}'), 1, "http_error"),
    (status(429), 1, "overloaded"), (resets, 5, "broken_off"), (breaks_off, 1, "broken_off"),
    (empty_stream, 1, "no_tokens"), (error_in_the_stream, 1, "no_tokens"), (endless, 1, "too_large"),
    (rubbish_bytes, 5, "not_http"), (tokens_then(DIED), 1, "stream_error"), (tokens_then(DIED, n=24), 1, "stream_error"),
    (tokens_then(DIED, done=False), 1, "stream_error"), (tokens_then({"object": "error", "message": "gone"}), 1, "stream_error"),
    (tokens_then(), 1, "broken_off"), (tokens_then(done=False), 1, "broken_off"), (closes_early, 1, "broken_off"),
    (tokens_then(finished("abort")), 1, "broken_off"), (tokens_then(n=24, text=""), 1, "no_tokens"),
]


@case
def engines_that_fail_are_told_apart():
    """All at once: most of their time is waiting."""
    with ThreadPoolExecutor(len(FAILURES)) as pool:
        documents = list(pool.map(lambda f: look(f[0]), FAILURES))
    for (mode, want, code), d in zip(FAILURES, documents):
        assert d["exit_status"] == want and code in codes(d), (mode, want, code, d["summary"], codes(d))
        assert all(ord(c) >= 32 for c in d["summary"]), d["summary"]
    fooled = [d for (m, _, _), d in zip(FAILURES, documents) if m in (healthy_but_dead, stuck, empty_stream)]
    assert all("health_route_fooled" in codes(d) for d in fooled)


@case
def a_header_that_is_too_large_is_named():
    for mode in (header_of(1, 50 << 20), header_of(5000, 1000)):
        d = look(mode)
        text = json.dumps([f for f in d["findings"] if f["code"] == "too_large"])
        assert "header is larger than 256 KiB" in text and "restart" not in text, d["findings"]
        assert d["exit_status"] in (1, 5)


@case
def answers_that_are_whole_are_good():
    for mode in (tokens_then(finished("stop"), done=False), tokens_then(finished("length"), n=24)):
        assert look(mode)["exit_status"] == 0, mode
    assert "EngineCore encountered an issue" in look(tokens_then(DIED))["summary"]
    with serving(tokens_then(DIED)) as url:
        done = validate("--url", url, env=NO_DRIVER)
        assert done.returncode == 1 and "EngineCore encountered an issue?" in done.stdout, done


@case
def a_speed_that_was_not_measured_is_absent():
    for mode, why in ((all_at_once, "came at once"), (not_streaming, "came at once"),
                      (tokens_then(finished("stop")), "too short")):
        d = look(mode)
        measured = d["engine"]["measured"]
        assert "tokens_per_s" not in measured and why in measured["tokens_per_s_why"], measured
        assert (d["verdict"], d["exit_status"]) == ("good", 0) and "speed_unknown" in codes(d), d
        d = look(mode, "--expect", "1")
        assert d["exit_status"] == 1 and why in d["summary"], d
    pauses = iter((0.001, 0.02, 0.05))
    d = look(lambda h: well(h, next(pauses) if h.path == "/v1/completions" else 0))
    assert "probes_differ" in codes(d) and d["exit_status"] == 0, d


@case
def nothing_of_the_engine_reaches_the_terminal_raw():
    evil = "small\x1b[31m\n\u009b2Jgood: all \x7f\u202e"

    def mode(h):
        if h.path == "/v1/models":
            h.answer(json.dumps({"data": [{"id": evil}]}))
        else:
            tokens_then({"error": {"message": evil}})(h)
    with serving(mode) as url:
        for done in (check("--url", url), validate("--url", url, env=NO_DRIVER)):
            assert done.returncode == 1 and "small?[31m??2J" in done.stdout, done
            assert not set(done.stdout) & set("\x1b\u009b\x7f\u202e"), done.stdout


@case
def text_that_is_no_language_is_warned_of():
    for text in ("!", "\ufffd", " \ufffd"):
        d = look(tokens_then(finished("length"), n=24, text=text))
        assert "garbage" in codes(d) and (d["verdict"], d["exit_status"]) == ("warn", 0), d


@case
def nobody_there():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    done = check("--url", f"127.0.0.1:{port}", env=dict(NO_DRIVER))
    assert done.returncode == 5 and done.stdout.startswith("unreachable: the engine is gone"), done
    done = check("--url", "http://no-such-host.invalid", env=dict(NO_DRIVER))
    assert done.returncode == 5 and "name cannot be resolved" in done.stdout, done


@case
def addresses_that_are_none_are_wrong_usage():
    for url in ("file:///etc/passwd", "ftp://h", "http://me:s3cret@h:99999", ""):
        for words in (("check",), ("validate-perf",), ("top", "--once")):
            done = subprocess.run([MUSTER, *words, "--url", url], capture_output=True, text=True, timeout=60,
                                  env=dict(os.environ, **NO_DRIVER))
            assert done.returncode == 2 and done.stdout == "" and "no address" in done.stderr, (url, done)
            assert "s3cret" not in done.stderr, done


@case
def a_password_in_the_address_is_used_and_not_shown():
    def keyed(h):
        well(h) if "Authorization: Basic bWU6czNjcmV0" in h.head else h.answer("{}", 401)
    with serving(keyed) as url:
        url = url.replace("//", "//me:s3cret@")
        for words in ((), ("--json",)):
            done = check("--url", url, *words)
            assert done.returncode == 0 and "s3cret" not in done.stdout + done.stderr, done


@case
def nothing_to_check_is_no_pass():
    done = check(env=dict(NO_DRIVER))
    assert done.returncode == 3 and "nothing could be checked" in done.stderr, done


@case
def a_kernel_log_that_was_given_is_read_or_named():
    with tempfile.TemporaryDirectory() as folder:
        for path in ("/nonexist", folder):
            for run in (check, lambda *w, env: validate("--live", *w, env=env)):
                done = run("--kernel-log", path, env=NO_DRIVER)
                assert done.returncode == 3 and path in done.stderr and done.stdout == "", done
        log = pathlib.Path(folder, "log")
        for text, wanted in (("hello\nworld\n", True), ("", True), ("[   12.5] usb 1-1: new\n", False),
                             ("[Thu Nov 20 18:00:00 2026] usb\n", False), ("Nov 20 18:00:00 h kernel: usb\n", False)):
            log.write_text(text)
            out = check("--kernel-log", str(log), env=NO_DRIVER).stdout
            assert ("holds no line of a kernel" in out) == wanted, (text, out)


@case
def the_key_is_sent_and_not_shown():
    def keyed(h):
        if "Authorization: Bearer s3cret" not in h.head:
            return h.answer("{}", 401)
        well(h)
    d = look(keyed, "--token", "s3cret")
    assert d["verdict"] == "good" and "s3cret" not in json.dumps(d)


@case
def expectations_and_baselines():
    d = look(well, "--expect", "100000")
    assert d["exit_status"] == 1 and "slower_than_expected" in codes(d)
    with tempfile.TemporaryDirectory() as data, serving(well) as url:
        store = pathlib.Path(data) / "runs.db"
        env = dict(NO_DRIVER, MUSTER_STORE=str(store))
        done = check("--url", url, "--baseline", "save", env=env)
        assert done.returncode == 0 and "baseline saved: run " in done.stderr, done
        saved = done.stderr.split()[-1]
        done = check("--url", url, env=env)
        assert done.returncode in (0, 1) and "in the baseline" in done.stdout, done

        def edit(sql):
            with contextlib.closing(sqlite3.connect(store)) as db, db:
                db.execute(sql, (saved,))
        edit("UPDATE figures SET value = 1e6 WHERE name = 'tokens_per_s' AND run = ?")
        done = check("--url", url, "--baseline", saved[:6], env=env)
        assert done.returncode == 1 and "1000000.0 in the baseline" in done.stdout, done
        for spelled in (url[7:], url + "/", url + "/v1", url[7:] + "/v1/"):
            done = check("--url", spelled, "--no-store", env=env)
            assert "1000000.0 in the baseline" in done.stdout, (spelled, done)
        assert "1000000.0" not in check("--url", url, "--baseline", "last", env=env).stdout
        edit("DELETE FROM figures WHERE run = ?")
        done = check("--url", url, env=env)
        assert done.returncode == 0 and "nothing was compared" in done.stdout, done
        done = check("--url", url, "--baseline", "save", "--no-store", env=env)
        assert done.returncode == 2 and done.stdout == "" and "--no-store keeps none" in done.stderr, done
        for path in data, store:  # asked for by name it must be there; else only the comparison is lost
            env["MUSTER_STORE"] = str(path)
            if path == store:
                for extra in store.parent.glob("runs.db*"):
                    extra.unlink()
                store.write_text("no database, and longer than the hundred bytes of a header" * 4)
            assert check("--url", url, "--baseline", "last", env=env).returncode == 3
            done = check("--url", url, env=env)
            assert done.returncode == 0 and "no baseline is compared" in done.stderr, done
        env["MUSTER_STORE"] = str(store.with_name("none.db"))
        assert check("--url", url, "--baseline", "last", env=env).returncode == 3


@case
def every_code_has_its_page():
    pages = "".join((ROOT / "docs/findings" / name).read_text() for name in ("devices.md", "engine.md"))
    said = set(re.findall(r"^## (\w+)$", pages, re.M))
    source = "".join(p.read_text() for p in sorted((ROOT / "src/health").glob("look*.c")))
    called = re.findall(r'look_find\([^;"]*"([a-z_]+)"', source)  # the code is the first text of a call
    rows = re.findall(r'\{(?:MU_PROBE_\w+|\d+),(?:\s*(?:LOOK_\w+|\d+),)?\s*"([a-z_]+)",', source)
    faults = re.findall(r'\{MU_NET_\w+, \w+, "([a-z_]+)"', (ROOT / "src/net/client.c").read_text())
    assert len(called) > 35 and len(rows) > 10 and len(faults) > 10, (called, rows, faults)
    wanted = {*called, *rows, *faults, "clocks_held"} - {"good", "cuda:%d"}
    assert wanted <= said, wanted - said
    assert said <= wanted, said - wanted


@case
def what_is_not_good_is_no_baseline():
    with tempfile.TemporaryDirectory() as data:
        store = pathlib.Path(data) / "runs.db"
        env = dict(NO_DRIVER, MUSTER_STORE=str(store))
        for mode, why in ((tokens_then(DIED), "is not good"), (not_streaming, "no speed was measured")):
            with serving(mode) as url:
                done = check("--url", url, "--baseline", "save", env=env)
            assert done.returncode == 1 and why in done.stderr and "no baseline was saved" in done.stderr, done
        done = check("--baseline", "save", env=env)
        assert done.returncode == 3, done
        with contextlib.closing(sqlite3.connect(store)) as db:
            assert db.execute("SELECT count(*) FROM baselines").fetchone() == (0,)


@case
def devices_are_judged():
    def verdict(lines, *words):
        with tempfile.NamedTemporaryFile("w") as script:
            script.write(lines)
            script.flush()
            env = dict(driver("h100x8"), MUSTER_NVML_FAKE=script.name, MUSTER_ROOT="/nonexistent")
            done = check("--json", *words, env=env)
        has_pages(json.loads(done.stdout))
        return json.loads(done.stdout)
    d = verdict("gpus 4\n")
    assert d["verdict"] == "good" and [x["memory_colour"] for x in d["devices"]] == ["green"] * 4
    for lines, code, status_wanted in (
            ("gpu 1 used_mib 4000\n", "idle", 1), ("gpu 1 used_mib 30000\n", "part_used", 0),
            ("gpu 1 used_mib 60000\n", "unbalanced", 0), ("gpu 1 dead 15\n", "gpu_unusable", 1),
            ("gpu 1 uncorrected 3\n", "ecc", 1), ("gpu 1 remap_failed 1\n", "remap_failed", 1),
            ("gpu 1 remap_pending 1\n", "remap_pending", 0), ("gpu 1 recovery 2\n", "recovery", 1),
            ("gpu 1 reasons 0x40\n", "throttle", 1), ("gpu 1 reasons 4\n", "clocks_held", 0),
            ("gpu 1 width 4\n", "pcie_width", 0), ("gpu 1 generation 1\n", "pcie_generation", 0),
            ("links 18\ngpu 1 links_down 2\n", "nvlink_down", 1)):
        d = verdict("gpus 4\n" + lines)
        assert code in codes(d) and d["exit_status"] == status_wanted, (lines, codes(d), d["summary"])
        where = [f["device"] for f in d["findings"] if f["code"] == code]
        assert where == (["cuda:1"] if code != "unbalanced" else [None]), where
    d = verdict("gpus 2\nrubbish 1\n")
    assert {"unreadable", "rubbish"} <= set(codes(d)) and d["exit_status"] == 1, codes(d)
    d = verdict("gpus 2\nhang nvmlDeviceGetPowerUsage\nhang_ms 4000\n")
    assert "driver_hangs" in codes(d) and d["exit_status"] == 1
    with tempfile.NamedTemporaryFile("wb") as log:
        log.write(b"\0\xff\n[ 12.5] NVRM: Xid (PCI:0000:11:00): 79, pid=7, GPU has fallen off the bus.\n"
                  b"NVRM: Xid (PCI:0000:12:00): 43, pid=8\nNVRM: Xid (PCI:0000:12:00): 31, pid=8\n" + b"x" * 300000)
        log.flush()
        d = verdict("gpus 4\n", "--kernel-log", log.name)
    levels = {f["text"].split(" at ")[0][-3:].strip(): f["level"] for f in d["findings"] if f["code"] == "xid"}
    assert levels == {"79": "bad", "43": "note", "31": "warn"}, d["findings"]


def cuda(lines, folder):
    """CUDA's library of a script."""
    if not (FAKES.parent / "measure/libcuda.so.1").exists():
        raise Skip("the scripted library was not built")
    script = pathlib.Path(folder, "cuda")
    script.write_text(lines)
    return {"MUSTER_CUDA": str(FAKES.parent / "measure/libcuda.so.1"), "MUSTER_CUDA_FAKE": str(script)}


@case
def devices_are_timed_alone():
    # One core has no peer that a busy machine could make it look slow beside.
    alone = {"preexec_fn": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})}

    def deep(lines, machine="h100x8", *words):
        with tempfile.TemporaryDirectory() as folder:
            env = dict(driver(machine), MUSTER_ROOT="/nonexistent", **cuda(lines, folder))
            done = check("--deep", *words, env=env, **alone)
        return done

    def document(*given):
        d = json.loads(deep(*given, "--json").stdout)
        has_pages(d)
        gpus = [f for f in d["findings"] if "cpu" not in f["text"] and f["code"] in ("slower_than_peers", "timing_failed", "not_timed")]
        return d, [(f["level"], f["code"], f["text"]) for f in gpus]
    d, found = document("gpus 8\n", "h100x8")
    assert found == [] and d["seconds"] < 30, found
    rows = {(r["figure"], r["device"], r["peer"]): r for r in d["alone"]}
    assert len([r for r in rows if r[0] == "link_bytes_per_s" and r[1].startswith("cuda")]) == 56
    assert abs(rows["memory_bytes_per_s", "cuda:7", None]["best"] / 2000e9 - 1) < 0.01
    assert abs(rows["fp32_flop_per_s", "cuda:7", None]["best"] / 60e12 - 1) < 0.01
    assert rows["link_bytes_per_s", "cuda:0", "cuda:7"]["alike"].endswith("direct NV18")
    d, found = document("gpus 8\nslow 5 60\n", "h100x8")
    memory = [f for f in found if f[2].startswith("cuda:5 moves its memory")]
    assert [f[:2] for f in memory] == [("warn", "slower_than_peers")] and "others use it" in memory[0][2], found
    assert sum(f[2].startswith("cuda:5 to ") for f in found) == 7, found
    d, found = document("gpus 8\nslow_fp32 3 11\nslow_fp32 4 9\n", "h100x8")
    assert [f[2][:28] for f in found] == ["cuda:3 multiplies at 53400.0"], found
    d, found = document("gpus 8\nfail cuModuleLoadData 221\n", "h100x8")
    assert len(found) == 8 and all(f[:2] == ("note", "not_timed") and "the driver's compiler is missing" in f[2] for f in found), found
    d, found = document("gpus 8\nhang cuCtxSetCurrent 2\n", "h100x8")
    assert ("bad", "timing_failed") in [f[:2] for f in found] and d["exit_status"] == 1 and d["seconds"] < 30, found
    assert "cuda:2 fails when it is used: cuCtxSetCurrent did not return in time" in [f[2] for f in found], found
    d, found = document("gpus 8\nfail cuDevicePrimaryCtxRetain 46 1\n", "h100x8")
    assert found == [("note", "not_timed", "cuda:1 was not timed: cuDevicePrimaryCtxRetain: the GPU is busy, or its "
                      "compute mode lets no other program in")], found
    d, found = document("gpus 3\n", "ada4")
    assert ("note", "not_timed", "GPU 3 was not timed: CUDA does not show it") in found, found
    out = deep("gpus 4\n", "ada4").stdout
    assert "\nALONE" in out and "\ncuda:3" in out and "\nFROM" in out, out
    with tempfile.NamedTemporaryFile("w") as script:
        script.write("gpus 4\nutil 0\n")
        script.flush()
        with tempfile.TemporaryDirectory() as folder:
            env = dict(driver("ada4"), MUSTER_NVML_FAKE=script.name, **cuda("gpus 4\nslow 2 60\nslow_fp32 3 11\n", folder))
            done = check("--deep", "--json", env=env, **alone)
    d = json.loads(done.stdout)
    for words in ("cuda:2 moves its memory", "cuda:3 multiplies"):
        slow = [f for f in d["findings"] if f["code"] == "slower_than_peers" and f["text"].startswith(words)]
        assert done.returncode == 1 and slow and slow[0]["level"] == "bad", d["findings"]
    d = json.loads(check("--deep", "--json", env=dict(driver("ada4"), MUSTER_CUDA="/nonexistent.so"), **alone).stdout)
    assert [f["device"] for f in d["findings"] if "no CUDA here" in f["text"]] == [f"cuda:{i}" for i in range(4)], d["findings"]
    done = check("--deep", "--json", env=dict(NO_DRIVER, MUSTER_CUDA="/nonexistent.so"), **alone)
    d = json.loads(done.stdout)
    assert [r["figure"] for r in d["alone"] if r["device"].startswith("cpu")].count("memory_bytes_per_s") >= 1, d
    assert any(s["source"] == "cuda" and not s["used"] for s in d["sources"]), d["sources"]


@case
def a_host_that_is_too_busy_is_told():
    with tempfile.TemporaryDirectory() as root, serving(well) as url:
        load = pathlib.Path(root, "proc/loadavg")
        load.parent.mkdir(parents=True)
        for text, told in (("9999.50 3 2 1/2 3", True), ("0.10 3 2 1/2 3", False), ("rubbish", False)):
            load.write_text(text)
            d = json.loads(check("--url", url, "--json", env=dict(NO_DRIVER, MUSTER_ROOT=root)).stdout)
            assert ("busy_host" in codes(d)) == told and d["exit_status"] == 0, (text, d["findings"])


@case
def a_zombie_is_seen():
    with tempfile.TemporaryDirectory() as root:
        stat = pathlib.Path(root, "proc/4242/stat")
        stat.parent.mkdir(parents=True)
        stat.write_text("4242 (vllm) Z 1")
        done = check("--json", env=dict(driver("h100x8"), MUSTER_ROOT=root))
    assert "zombie" in codes(json.loads(done.stdout)) and done.returncode == 1


@case
def devices_and_engine_together():
    with serving(well) as url:
        done = check("--url", url, env=driver("ada4"))
    assert done.returncode == 0 and "RTX 4000 Ada" in done.stdout and "tokens/s" in done.stdout, done
    assert done.stdout.startswith("good: 4 GPUs, ") and "green" in done.stdout


def validate(*words, env):
    return subprocess.run([MUSTER, "validate-perf", *words], capture_output=True, text=True, timeout=60,
                          env=dict(os.environ, MUSTER_ROOT="/nonexistent", **env))


@case
def the_long_look_joins_all_witnesses():
    log = next((ROOT / "tests/golden/logs/incidents").glob("35-*.log"))
    with serving(well) as url, tempfile.NamedTemporaryFile("w") as kernel:
        kernel.write("NVRM: Xid (PCI:0000:11:00): 62, pid=7\n")
        kernel.flush()
        words = ("--url", url, "--log", str(log), "--kernel-log", kernel.name)
        done = validate(*words, env=driver("ada4"))
        d = json.loads(validate(*words, "--json", env=driver("ada4")).stdout)
    out = done.stdout
    assert done.returncode == 1, done
    for number, title in enumerate(("Hardware and topology", "Parallel configuration", "Memory and balance",
                                    "Communication and errors", "Live tests", "Configuration review"), 1):
        assert f"\n{number}  {title}\n" in out, out
    for part in ("Xid 62", "PHB", "RTX 4000 Ada", "tokens/s, first token", "reported     running 2",
                 "Summary: bad:", "Verdict: failed, net_unreachable"):
        assert part in out, (part, out)
    assert d["log"]["first_cause"]["cause"] == "net_unreachable" and d["verdict"] == "bad"
    trials = d["engine"]["trials"]
    assert [(t["tokens_asked"], t["parallel"], t["answered"], t["tokens"]) for t in trials] == [
        (256, 1, 1, 256), (512, 1, 1, 512), (512, 1, 1, 512), (128, 4, 4, 512)], trials
    assert all(t["tokens_per_s"] > 50 for t in trials) and "4 x 128 tokens at once: " in out, (trials, out)
    done = validate(env=NO_DRIVER)
    assert done.returncode == 3 and "absent: no GPU was seen" in done.stdout, done


@case
def the_speed_is_judged_by_what_is_known():
    """Published for 4 x RTX 4000 Ada: 40 to 50 tokens/s, for a model of this name in AWQ."""
    name = "Qwen/Qwen2.5-Coder-32B-Instruct-AWQ"

    def model(pause):
        def mode(h):
            if h.path == "/v1/models":
                h.answer(json.dumps({"data": [{"id": name}]}))
            elif not h.side_routes():
                h.begin_stream()
                for _ in range(min(h.body["max_tokens"], 24)):
                    h.word()
                    time.sleep(pause)
                h.event(finished("length"))
                h.end_stream()
        return mode

    def look_at(pause, script="gpus 4\nused_mib 18100\nmemory_mib 20475\n", *words):
        with serving(model(pause)) as url, tempfile.NamedTemporaryFile("w") as f:
            f.write("name NVIDIA RTX 4000 Ada Generation\n" + script)
            f.flush()
            env = dict(driver("ada4"), MUSTER_NVML_FAKE=f.name)
            d = json.loads(validate("--url", url, "--json", *words, env=env).stdout)
        has_pages(d)
        return d, {f["code"]: f["text"] for f in d["findings"]}

    log = next((ROOT / "tests/golden/logs/incidents").glob("35-*.log"))
    throttled = "gpus 4\nused_mib 18100\nmemory_mib 20475\ngpu 2 reasons 0x40\n"
    asked = ((0.001,), (0.1,), (0.1, throttled), (0.1, throttled, "--log", str(log)),
             (0.01, "gpus 1\nused_mib 18100\nmemory_mib 20475\n"), (0.01, "gpus 3\nused_mib 18100\n"))
    with ThreadPoolExecutor(len(asked)) as pool:
        fast, slow, hot, logged, one, three = pool.map(lambda a: look_at(*a), asked)
    d, found = fast
    assert d["engine"]["expected"]["published_low"] == 40 and d["engine"]["expected"]["published_high"] == 50, d["engine"]
    assert 20 < d["engine"]["expected"]["predicted_tokens_per_s"] < 80 and "as_expected" in found, (d["engine"], found)
    d, found = slow
    assert d["exit_status"] == 1 and "less than half of what is published: 40 to 50" in d["summary"], d["summary"]
    assert "likely_reason" in found, found  # the scripted metrics tell of others' requests
    d, found = hot
    assert "hardware thermal slowdown" in found["likely_reason"], found
    d, found = logged
    assert log.name in found["likely_reason"], found
    assert "published_not_to_fit" in one[1] and "published_low" not in three[0]["engine"]["expected"], (one[1], three[1])


@case
def long_answers_that_go_wrong_are_told():
    """Each fails in a trial alone: the short probes before it are well."""
    one_at_a_time = threading.Lock()

    def serial(h):
        if h.side_routes():
            return
        with one_at_a_time:
            well(h)

    def strict(h):
        well(h) if not h.body or "ignore_eos" not in h.body else h.answer('{"error":{"message":"ignore_eos?"}}', 400)

    def unsteady(h):
        if h.side_routes():
            return
        h.begin_stream()
        for _ in range(h.body["max_tokens"]):
            h.word()
            time.sleep(0.004 if h.body["max_tokens"] == 256 else 0.001)
        h.end_stream()

    def forgetful(h):
        tokens_then(DIED, n=100, pause=0)(h) if h.body and h.body["max_tokens"] > 100 else well(h)

    def lagging(h):
        well(h) if not h.body or h.body["max_tokens"] < 100 else stuck(h)
    modes = ((serial, "gains_nothing_together", 0), (strict, None, 0), (unsteady, "unsteady", 0),
             (forgetful, "stream_error", 1), (lagging, "stuck", 1))

    def run(mode):
        with serving(mode) as url:
            return validate("--url", url, "--json", env=NO_DRIVER)
    with ThreadPoolExecutor(len(modes)) as pool:
        done = list(pool.map(run, [mode for mode, _, _ in modes]))
    for (mode, code, want), process in zip(modes, done):
        d = json.loads(process.stdout)
        found = set(codes(d)) & {"gains_nothing_together", "unsteady", "stream_error", "stuck"}
        assert process.returncode == want and found >= {code} - {None}, (mode, process.returncode, codes(d))
        assert want == 0 or len(d["engine"]["trials"]) == 1, d["engine"]["trials"]


@case
def logs_that_nobody_can_read_are_named():
    line = "INFO 05-09 00:40:33 [api_server.py:1034] vLLM API server version 0.8.3\n"
    for data, what in ((gzip.compress(line.encode()), "gzip"), (line.encode("utf-16"), "UTF-16"), (b"BZh91AY", "bzip2")):
        with tempfile.NamedTemporaryFile() as log:
            log.write(data)
            log.flush()
            done = validate("--log", log.name, env=NO_DRIVER)
        assert done.returncode == 3 and what in done.stderr and "--log -" in done.stderr, done


@case
def logs_are_asked_of_docker_and_of_the_journal():
    log = next((ROOT / "tests/golden/logs/incidents").glob("35-*.log"))
    scripts = {"docker": f'[ "$1 $2" = "logs --" ] || exit 2\ncase $3 in engine) cat {log} >&2 ;; mute) sleep 60 ;;\n'
                         '*) echo "Error: No such container: $3" >&2; exit 1 ;; esac',
               "journalctl": f'case "$*" in *--unit=vllm) cat {log} ;; esac'}
    with tempfile.TemporaryDirectory() as folder:
        for name, text in scripts.items():
            pathlib.Path(folder, name).write_text(f"#!/bin/sh\n{text}\n")
            pathlib.Path(folder, name).chmod(0o755)
        env = dict(NO_DRIVER, PATH=f"{folder}:/usr/bin:/bin")
        for source in ("docker:engine", "journal:vllm"):
            d = json.loads(validate("--json", "--log", source, env=env).stdout)
            assert d["first_cause"]["cause"] == "net_unreachable" and d["first_cause"]["file"] == source, d
        for source, what in (("docker:gone", "No such container: gone"), ("docker:-x", "No such container: -x"),
                             ("podman:engine", "cannot run podman"), ("journal:none", "no line is of a known kind")):
            done = validate("--log", source, env=env)
            assert done.returncode == 3 and what in done.stderr, (source, done)
        start = time.monotonic()
        done = validate("--log", "docker:mute", env=env)
        assert done.returncode == 5 and "gave nothing" in done.stderr and time.monotonic() - start < 25, done


@case
def evidence_ends_with_a_whole_word():
    line = "ERROR torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.31 GiB. " + "pencil " * 200
    with tempfile.NamedTemporaryFile("w") as log:
        log.write(line + "\n")
        log.flush()
        out = validate("--log", log.name, env=NO_DRIVER).stdout
    evidence = [row for row in out.splitlines() if "pencil" in row]
    assert len(evidence) == 2 and all(row.endswith(" pencil ...") for row in evidence), evidence


@case
def watching_goes_on_until_interrupted():
    with serving(well) as url, tempfile.TemporaryDirectory() as state:
        process = subprocess.Popen([MUSTER, "check", "--url", url, "--watch", "1", "--json"], text=True,
                                   stdout=subprocess.PIPE, env=dict(os.environ, XDG_DATA_HOME=state, **NO_DRIVER))
        lines = [json.loads(process.stdout.readline())["verdict"] for _ in range(2)]
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
    assert lines == ["good", "good"] and process.returncode in (0, 130), (lines, process.returncode)


@case
def a_watch_saves_one_baseline_and_compares_with_it():
    with serving(well) as url, tempfile.TemporaryDirectory() as data:
        store = pathlib.Path(data) / "runs.db"
        process = subprocess.Popen([MUSTER, "check", "--url", url, "--watch", "1", "--json", "--baseline", "save"], text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=dict(os.environ, MUSTER_STORE=str(store), **NO_DRIVER))
        rounds = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert said.count("baseline saved") == 1, said
    compared = [any("baseline" in code for code in codes(d)) for d in rounds]
    assert compared == [False, True, True], rounds


finish()
