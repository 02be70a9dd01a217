"""muster top: one view as text and JSON, and the live screen inside tmux."""
import contextlib
import http.server
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time

from _case import MUSTER, Skip, case, finish, muster

FAKES = pathlib.Path(MUSTER).resolve().parent / "tests/probe"
SCRIPT = "gpus 8\nlinks 18\ngpu 3 reasons 0x40\ngpu 5 used_mib 2000\ngpu 6 dead 15\nprocess 0 4242 73000\n"


class Metrics(http.server.BaseHTTPRequestHandler):
    start = time.monotonic()

    def do_GET(self):
        tokens = int(50 * (time.monotonic() - self.start))
        body = (f"vllm:num_requests_running 3\nvllm:kv_cache_usage_perc 0.5\n"
                f"vllm:generation_tokens_total {tokens}\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def machine():
    """A scripted driver and an engine's metrics: (environment, URL)."""
    if not (FAKES / "libnvidia-ml.so.1").exists():
        raise Skip("the scripted driver was not built")
    with tempfile.NamedTemporaryFile("w") as script, http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        script.write(SCRIPT)
        script.flush()
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield ({"MUSTER_NVML": str(FAKES / "libnvidia-ml.so.1"), "MUSTER_NVML_FAKE": script.name},
               f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()


@case
def one_view():
    with machine() as (env, url):
        out, _ = muster("top", "--once", "--url", url, env=env)
        d = json.loads(muster("top", "--once", "--json", "--url", url, env=env)[0])
    lines = out.splitlines()
    assert lines[1].startswith("GPU MEMORY") and len(lines) > 12 and out.isascii(), out
    assert "hw thermal" in lines[5] and "fell off the bus" in lines[8], out
    assert "vllm (reported)  running 3" in out and "4242" in out, out
    assert d["engine_reported"]["running"] == 3 and len(d["devices"]) == 9
    assert d["devices"][1]["sampled_mean"]["utilization_percent"] == 93
    assert d["sampling"]["ticks"] >= 8, d["sampling"]


@case
def without_anything_it_still_tells():
    out, _ = muster("top", "--once", env={"MUSTER_NVML": "/nonexistent.so"})
    assert "no GPU" in out and "\ncpu " in out and "engine  none was asked: give --url" in out, out
    out, _ = muster("top", "--once", "--url", "http://127.0.0.1:1", status=5, env={"MUSTER_NVML": "/nonexistent.so"})
    assert "engine  nobody answers there" in out, out
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        out, _ = muster("top", "--once", "--url", url, status=5, env={"MUSTER_NVML": "/nonexistent.so"})
        assert "engine  connected, and no answer within 2.0 s" in out, out
    assert "--once" in muster("top", status=2)[1]
    muster("top", "--json", status=2)


@case
def the_screen_lives_in_80x24_and_follows_keys_and_sizes():
    if not shutil.which("tmux"):
        raise Skip("no tmux here")

    def tmux(*words):
        done = subprocess.run(["tmux", "-L", f"muster{os.getpid()}", "-f", "/dev/null", *words], capture_output=True, text=True,
                              env=dict(os.environ, **env, TERM="xterm-256color", LC_ALL="C.UTF-8"))
        return done.stdout

    def wait_for(test, what):
        for _ in range(100):
            screen = tmux("capture-pane", "-p")
            if test(screen):
                return screen
            time.sleep(0.1)
        raise AssertionError(f"never {what}:\n{screen}")

    with machine() as (env, url):
        try:
            tmux("new-session", "-d", "-x", "80", "-y", "24", f"{MUSTER} top --url {url}; echo ended $?; sleep 30")
            screen = wait_for(lambda s: "tokens/s" in s, "shows the engine")
            rows = screen.splitlines()
            assert len(rows) == 24 and max(map(len, rows)) <= 80 and rows[-1].startswith("q quit"), screen
            assert "hw thermal" in screen and "GPU     PID" in screen, screen
            tmux("send-keys", "p")
            wait_for(lambda s: "(paused)" in s, "pauses")
            tmux("send-keys", "p")
            tmux("resize-window", "-x", "60", "-y", "8")
            wait_for(lambda s: len(s.splitlines()) == 8 and s.splitlines()[-1].startswith("q quit  p pause"), "shrinks")
            tmux("send-keys", "Down")
            wait_for(lambda s: s.splitlines()[2].startswith("  1 "), "scrolls")
            tmux("resize-window", "-x", "120", "-y", "30")
            wait_for(lambda s: len(s.splitlines()) == 30 and s.splitlines()[2].startswith("  0 "), "grows")
            tmux("send-keys", "q")
            wait_for(lambda s: "ended 0" in s, "ends")
        finally:
            tmux("kill-server")


finish()
