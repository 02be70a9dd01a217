"""muster top: one view as text and JSON, and the live screen inside tmux."""
import contextlib
import fcntl
import http.client
import http.server
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time

import _metrics
from _case import MUSTER, ROOT, Skip, case, finish, muster

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
    assert "GPU    PCIE IN   PCIE OUT  NVLINK IN NVLINK OUT" in lines and "  0   1.2 GB/s   2.4 GB/s " in out, out
    sent = d["devices"][1]["nvlink_sent_bytes_per_s"]
    assert 0 < sent and d["devices"][1]["pcie_sent_bytes_per_s"] == 2.4e9, d["devices"][1]


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


# --- export -------------------------------------------------------------------------------------

@contextlib.contextmanager
def exporting(env, address="0"):
    """muster top --export without a terminal: (host, port, what it said). Ends well when told to."""
    process = subprocess.Popen([MUSTER, "top", "--export", address], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=dict(os.environ, **env))
    try:
        said = process.stderr.readline()
        found = re.search(r"http://(\S+):(\d+)/metrics", said)
        assert found, said
        yield found[1], int(found[2]), said
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
        assert process.returncode in (0, 130, 143) and out == "", (process.returncode, out, err)
    finally:
        process.kill()
        process.communicate()


def get(host, port, path="/metrics", accept=None, method="GET"):
    connection = http.client.HTTPConnection(host, port, timeout=5)
    connection.request(method, path, headers={"Accept": accept} if accept else {})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer, body


@case
def what_is_exported_is_what_was_seen():
    with machine() as (env, _), exporting(env) as (host, port, said):
        assert host == "127.0.0.1" and "everybody" not in said, said
        for _ in range(50):
            answer, text = get(host, port)
            if "muster_sampler_ticks_total" in text:
                break
            time.sleep(0.1)
        open_answer, open_text = get(host, port, accept="application/openmetrics-text;version=1.0.0;q=0.9,text/plain;q=0.5")
        plain_again, _ = get(host, port, accept="text/plain, application/openmetrics-text;q=0.2")
    assert answer.getheader("Content-Type") == plain_again.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    assert open_answer.getheader("Content-Type").startswith("application/openmetrics-text; version=1.0.0")
    plain, openmetrics = _metrics.parse(text), _metrics.parse(open_text, openmetrics=True)

    def values(family, families=plain):
        return {labels["gpu"]: value for _, labels, value in families[family].samples}
    power, usable = values("DCGM_FI_DEV_POWER_USAGE"), values("muster_gpu_usable")
    assert power == {str(i): 412 for i in range(8) if i != 6} and usable["6"] == 0 and usable["0"] == 1
    assert values("DCGM_FI_DEV_FB_USED")["5"] == 2000 and values("DCGM_FI_DEV_CLOCKS_EVENT_REASONS")["3"] == 0x40
    assert values("DCGM_FI_DEV_FB_TOTAL")["0"] == 81559 and values("DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL")["0"] == 0
    assert values("DCGM_FI_DEV_PCIE_TX_THROUGHPUT")["0"] == 2400000 and values("DCGM_FI_DEV_PCIE_RX_THROUGHPUT")["0"] == 1200000
    assert values("muster_gpu_nvlink_sent_bytes_total")["0"] > 0
    assert "DCGM_FI_DEV_FAN_SPEED" not in plain, "a figure that cannot be read is absent"
    labels = plain["DCGM_FI_DEV_GPU_TEMP"].samples[1][1]
    assert labels["pci_bus_id"] == "00000000:11:00.0" and labels["device"] == "nvidia1" and labels["Hostname"], labels
    assert labels["modelName"] == "NVIDIA H100 80GB HBM3" and labels["DCGM_FI_DRIVER_VERSION"] == "550.54.15", labels
    assert plain["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"].type == "counter" and plain["muster_cpu_info"].samples
    assert openmetrics["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"].type == "unknown"
    assert openmetrics["muster_sampler_ticks"].type == "counter" and openmetrics["process_cpu_seconds"].samples[0][2] > 0
    assert values("DCGM_FI_DEV_POWER_USAGE", openmetrics) == power


@case
def exports_of_odd_machines_can_be_read():
    for script in ("mig", "old", "rubbish", "dead"):
        env = {"MUSTER_NVML": str(FAKES / "libnvidia-ml.so.1"), "MUSTER_NVML_FAKE": str(ROOT / "tests/probe/nvml" / script)}
        with exporting(env) as (host, port, _):
            families = _metrics.parse(get(host, port)[1])
        assert families["muster_gpus"].samples[0][2] >= 2
        assert script != "mig" or len(families["muster_mig_memory_bytes"].samples) == 3
    with exporting({"MUSTER_NVML": "/nonexistent.so"}) as (host, port, _):
        families = _metrics.parse(get(host, port)[1])
    assert families["muster_gpus"].samples[0][2] == 0 and not any(name.startswith("DCGM") for name in families)


@case
def clients_that_are_slow_or_many_harm_nobody():
    with exporting({"MUSTER_NVML": "/nonexistent.so"}) as (host, port, _):
        assert get(host, port, "/")[0].status == 200 and get(host, port, "/nowhere")[0].status == 404
        assert get(host, port, method="HEAD")[1] == "" and get(host, port, method="POST")[0].status == 405
        with contextlib.ExitStack() as held:
            for i in range(100):
                client = held.enter_context(socket.create_connection((host, port), timeout=5))
                with contextlib.suppress(OSError):
                    client.sendall((b"", b"GET /metrics HTTP/1.1\r\nX: ", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20)[i % 3])
            start = time.monotonic()
            for _ in range(5):
                assert _metrics.parse(get(host, port)[1])
            assert time.monotonic() - start < 5
        with socket.create_connection((host, port), timeout=5) as rude:
            rude.sendall(b"\x16\x03\x01" + bytes(range(256)) * 100)
            with contextlib.suppress(OSError):
                rude.recv(100)
        with socket.create_connection((host, port), timeout=5) as large:
            large.sendall(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 100000)
            with contextlib.suppress(OSError):
                assert b" 431 " in large.recv(100)
        assert get(host, port)[0].status == 200


@case
def where_it_listens_is_said():
    env = {"MUSTER_NVML": "/nonexistent.so"}
    with exporting(env, "0.0.0.0:0") as (_, port, said):
        assert "for everybody who can reach this machine" in said and get("127.0.0.1", port)[0].status == 200
        assert "cannot listen" in muster("top", "--export", str(port), status=4, env=env)[1]
    for address in ("", "x", "127.0.0.1", "127.0.0.1:99999", "no-such-host.invalid:1", "[::1:9", ":"):
        assert "no address to listen at" in muster("top", "--export", address, status=2, env=env)[1]
    muster("top", "--once", "--export", "0", status=2, env=env)


# --- the screen ---------------------------------------------------------------------------------

SESSIONS = itertools.count()


@contextlib.contextmanager
def tmux_session(columns, rows, command, env):
    """A terminal of this size in which the command runs: (tmux, wait_for)."""
    if not shutil.which("tmux"):
        raise Skip("no tmux here")

    # A server that was just told to end would take a new session along: each has its own.
    name = f"muster{os.getpid()}-{next(SESSIONS)}"

    def tmux(*words):
        done = subprocess.run(["tmux", "-L", name, "-f", "/dev/null", *words], capture_output=True, text=True,
                              env=dict(os.environ, **env, TERM="xterm-256color", LC_ALL="C.UTF-8"))
        return done.stdout

    def wait_for(test, what):
        for _ in range(100):
            screen = tmux("capture-pane", "-p")
            if screen.strip() and test(screen):
                return screen
            time.sleep(0.1)
        raise AssertionError(f"never {what}:\n{screen}")
    try:
        tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), command)
        yield tmux, wait_for
    finally:
        tmux("kill-server")


@case
def the_screen_lives_in_80x24_and_follows_keys_and_sizes():
    command = "{} top --url {}; echo ended $?; sleep 30"
    with machine() as (env, url), tmux_session(80, 24, command.format(MUSTER, url), env) as (tmux, wait_for):
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


@case
def terminals_without_a_cursor_are_told_what_to_do():
    for kind in ("dumb", "no-such-kind", ""):
        env = {"MUSTER_NVML": "/nonexistent.so"}
        command = f"TERM={kind} {MUSTER} top; echo ended $?; sleep 30"
        with tmux_session(100, 24, command, env) as (_, wait_for):
            screen = wait_for(lambda s: "ended" in s, "ends")
            assert f"of the kind '{kind}'" in screen and "--once" in screen and "ended 3" in screen, screen


@case
def colours_are_left_out_when_they_are_not_wanted():
    with machine() as (env, url), tmux_session(80, 24, f"{MUSTER} top --url {url}", env) as (tmux, wait_for):
        wait_for(lambda s: "tokens/s" in s, "shows the engine")
        assert "\x1b[31m" in tmux("capture-pane", "-p", "-e"), "a hot GPU is red"
    with machine() as (env, url), tmux_session(80, 24, f"{MUSTER} top --url {url}", dict(env, NO_COLOR="1")) as (tmux, wait_for):
        wait_for(lambda s: "tokens/s" in s, "shows the engine")
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", tmux("capture-pane", "-p", "-e"))


@case
def small_windows_show_what_fits():
    sizes = ((20, 5), (3, 2), (40, 1), (1, 1), (200, 60), (20, 5))
    with machine() as (env, url), tmux_session(20, 5, f"{MUSTER} top --url {url}; echo ended $?; sleep 30", env) as (tmux, wait_for):
        wait_for(lambda s: s.startswith("muster top"), "begins")
        for columns, rows in sizes:
            tmux("resize-window", "-x", str(columns), "-y", str(rows))
            time.sleep(0.6)
            assert all(len(line) <= columns for line in tmux("capture-pane", "-p").splitlines())
        screen = wait_for(lambda s: s.splitlines()[-1].startswith("q quit"), "comes back")
        assert screen.splitlines()[2].startswith("  0 "), screen
        for _ in range(40):
            tmux("send-keys", "Down")
        wait_for(lambda s: not s.splitlines()[2].startswith("  0 "), "scrolls")
        tmux("send-keys", "q")
        wait_for(lambda s: "ended 0" in s, "ends")


@case
def a_slow_line_is_not_flooded_and_still_heard():
    """A terminal that takes 1,200 bytes a second, as a bad connection does."""
    with machine() as (env, url):
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        process = subprocess.Popen([MUSTER, "top", "--url", url], stdin=slave, stdout=slave, stderr=subprocess.DEVNULL,
                                   env=dict(os.environ, **env, TERM="xterm"), start_new_session=True)
        os.close(slave)
        os.set_blocking(master, False)
        amounts = []

        def drain(seconds):
            for _ in range(int(seconds * 10)):
                time.sleep(0.1)
                with contextlib.suppress(BlockingIOError, OSError):
                    amounts.append(len(os.read(master, 120)))
        try:
            drain(12)
            os.write(master, b"q")
            drain(6)
            assert process.wait(timeout=5) == 0
        finally:
            process.kill()
            os.close(master)
    # A whole screen at first, then what changes: the line must be free for most of the time.
    late = amounts[60:120]
    assert sum(late) < 0.75 * 120 * 60, (sum(late), amounts)


finish()
