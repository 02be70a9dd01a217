"""What is kept of runs, and muster runs: as a user sees it, and as Python's own SQLite does."""
import contextlib
import csv
import html.parser
import io
import json
import os
import pathlib
import random
import re
import sqlite3
import stat
import subprocess
import tempfile
import time
import xml.etree.ElementTree

from _case import MUSTER, ROOT, case, finish, muster

NANO = ["generate", "synth:nano", "--tokens", "1,2,3", "-n", "24", "--ignore-eos"]
LOG = str(ROOT / "tests/golden/logs/incidents/01-kv-max-len-262144.log")


@contextlib.contextmanager
def store():
    """A store of its own; gives its path and a function that runs the program on it."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "new/runs.db"

        def run(*words, **options):
            return muster(*words, env={"MUSTER_STORE": str(path)}, **options)
        yield path, run


def rows(path, sql, *values):
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(sql, values).fetchall()


def document(run, *words):
    return json.loads(run("runs", *words, "--json")[0])


@case
def one_is_counted_as_one():
    with store() as (path, run):
        run("perplexity", str(ROOT / "tests/golden/1_tiny/qwen2"), "--file", str(ROOT / "VERSION"))
        assert ", 1 window of " in rows(path, "SELECT result FROM runs")[0][0]
        assert "measured: 1 prompt token in " in run("generate", "synth:nano", "--tokens", "1", "-n", "2", "-v")[1]
        assert "measured: 3 prompt tokens in " in run(*NANO, "-v")[1]


@case
def every_command_keeps_its_run():
    with store() as (path, run):
        run(*NANO)
        run(*NANO, "--json")
        run("perplexity", str(ROOT / "tests/golden/1_tiny/qwen2"), "--file", str(ROOT / "VERSION"))
        run("prove", "synth:nano", "--quick", "-n", "2")
        run("validate-perf", "--log", LOG, status=1)
        run(*NANO, "--no-store")
        run("inspect", "synth:nano")
        kept = rows(path, "SELECT command, exit_status, machine <> '', result <> '' FROM runs ORDER BY number")
        assert kept == [("generate", 0, 1, 1), ("generate", 0, 1, 1), ("perplexity", 0, 1, 1),
                        ("prove", 0, 1, 1), ("validate-perf", 1, 1, 1)], kept
        assert rows(path, "PRAGMA journal_mode") == [("wal",)]
        assert rows(path, "PRAGMA integrity_check") == [("ok",)]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        first = document(run, "show", "last~4")
        figures = {(f["kind"], f["name"]): f["value"] for f in first["figures"]}
        assert figures["predicted", "cpu.total_bytes"] >= figures["measured", "cpu.total_bytes"] > 0
        assert figures["measured", "decode_tokens_per_s"] > 0
        assert {s["name"]: s["value"] for s in first["settings"]}["devices"] == "cpu"
        assert sum(s["name"] == "decode_tokens_per_s" for s in first["samples"]) > 4
        log = document(run, "show", "last")
        cause = [f for f in log["findings"] if f["level"] == "first_cause"]
        assert len(cause) == 1 and cause[0]["code"] == "kv_too_small" and ":69" in cause[0]["place"], cause
        assert cause[0]["page"] == "docs/findings/out-of-memory.md#kv_too_small"


@case
def secrets_and_endless_texts_stay_out():
    with store() as (path, run):
        run(*NANO[:2], "--tokens", ",".join(["1"] * 500), "-n", "1")
        run("check", "--url", "http://user:hunter2@127.0.0.1:9", "--token", "swordfish", status=5)
        run("check", "--url=http://127.0.0.1:9", "--tok=swordfish", status=5)
        text = " ".join(map(str, rows(path, "SELECT * FROM runs, settings")))
        assert "hunter2" not in text and "swordfish" not in text
        assert "http://***@127.0.0.1:9" in text and "--token" in text, text
        assert rows(path, "SELECT max(length(command_line)) FROM runs")[0][0] < 600


@case
def what_cannot_be_kept_costs_a_line():
    with tempfile.TemporaryDirectory() as folder:
        broken = pathlib.Path(folder) / "runs.db"
        broken.write_text("not a database, and longer than a header of one hundred bytes is" * 4)
        for path, word in ((str(broken), "no SQLite file"), (folder, "cannot be opened"),
                           ("/proc/no/runs.db", "cannot make the folder")):
            out, err = muster(*NANO, "--json", env={"MUSTER_STORE": path})
            assert json.loads(out)["ids"] and err.count("\n") == 1, err
            assert "this run was not kept" in err and word in err, err
        for words in (["list"], ["show"], ["compare"], ["export"]):
            out, err = muster("runs", *words, "--store", str(broken), status=3)
            assert not out and "move it away" in err and str(broken) in err, err
        out, err = muster("runs", "--store", folder + "/none.db", status=3)
        assert "no run was kept yet" in err and not (pathlib.Path(folder) / "none.db").exists()
        out, err = muster("runs", env={"XDG_DATA_HOME": folder})
        assert out == "" and "no run is like that" in err
        assert muster(*NANO, env={"XDG_DATA_HOME": "", "HOME": ""})[1].count("no home") == 1
        assert muster(*NANO, env={"XDG_DATA_HOME": folder, "MUSTER_STORE": ""})[1] == ""
        assert (pathlib.Path(folder) / "muster/muster.db").exists()
        assert "is empty" in muster("runs", "--store", "", status=2)[1]


@case
def a_newer_store_is_refused_and_an_older_one_updated():
    with store() as (path, run):
        run(*NANO)
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.executescript("DROP TABLE baselines; PRAGMA user_version = 1")
        assert len(document(run, "list")["runs"]) == 1
        assert rows(path, "PRAGMA user_version")[0][0] > 1
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.executescript("PRAGMA user_version = 1000")
        _, err = run("runs", status=3)
        assert "a newer muster wrote this" in err and "1000" in err, err


@case
def list_filters():
    with store() as (path, run):
        for devices in ("cpu", "cpu:2"):
            run(*NANO, "--devices", devices)
        run("perplexity", str(ROOT / "tests/golden/1_tiny/qwen2"), "--file", str(ROOT / "VERSION"))
        for words, n in (([], 3), (["-c", "generate"], 2), (["-m", "QWEN"], 1), (["--last", "1"], 1),
                         (["-w", "devices=cpu:2"], 1), (["-w", "devices=cpu", "-c", "generate"], 1),
                         (["-c", "prove"], 0)):
            assert len(document(run, "list", *words)["runs"]) == n, words
        out, err = run("runs")
        assert out.count("\n") == 4 and "perplexity" in out.splitlines()[-1] and str(path) in err
        assert run("runs", "show", "last~2")[0].startswith("run " + document(run, "list")["runs"][0]["id"])
        assert "decode_tokens_per_s" in run("runs", "show", "last~1")[0]
        for words in (["show", "last~3"], ["show", "zz"], ["compare", "last", "devices=none"]):
            assert run("runs", *words, status=3)[1].count("\n") == 1
        for words in (["jump"], ["rm"], ["show", "a", "b"], ["prune"], ["prune", "--older-than", "soon"],
                      ["compare", "last,devices=cpu", "last"]):
            assert run("runs", *words, status=2)[1].count("\n") == 1


@case
def comparisons_tell_real_from_noise():
    with store() as (path, run):
        for devices in ("cpu", "cpu:2") * 3:
            run(*NANO, "--devices", devices)
        ids = [r["id"] for r in document(run, "list")["runs"]]
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            for i, value in enumerate((100, 110, 101, 112, 99, 111)):
                db.execute("UPDATE figures SET value = ? WHERE run = ? AND name = 'decode_tokens_per_s'", (value, ids[i]))
            db.execute("UPDATE figures SET value = 5 + (rowid % 7) WHERE name = 'ttft_ms'")

        def figures(*words):
            return {f["name"]: f for f in document(run, "compare", *words)["figures"] if f["kind"] == "measured"}
        for words in (["devices=cpu", "devices=cpu:2"], [",".join(ids[::2]), ",".join(ids[1::2])]):
            speed = figures(*words)["decode_tokens_per_s"]
            assert speed["verdict"] == "real" and speed["noise_from"] == "runs", speed
            assert abs(speed["difference"] - 11) < 0.01 and speed["runs_a"] == speed["runs_b"] == 3
            # What scipy makes of the logarithms.
            assert abs(speed["difference_low"] - 8.62105) < 0.01, speed
            assert abs(speed["difference_high"] - 13.43173) < 0.01, speed
        one = figures(ids[0], ids[1])["decode_tokens_per_s"]
        assert one["noise_from"] == "samples" and one["runs_a"] == 1
        mixed = figures(",".join(ids[::2]), ids[1])["decode_tokens_per_s"]
        assert mixed["noise_from"] == "spread" and mixed["verdict"] == "real"
        last = figures()["ttft_ms"]  # of the last two
        assert last["noise_from"] == "unknown" and last["verdict"] in ("too few to tell", "same"), last
        assert figures("-f", "decode").keys() == {"decode_tokens_per_s"}
        out, _ = run("runs", "compare", "devices=cpu", "devices=cpu:2")
        assert "devices" in out and "Welch" in out and "real" in out, out
        assert out == run("runs", "compare", "devices=cpu", "devices=cpu:2")[0]


@case
def comparisons_say_what_differs_besides_the_figures():
    with store() as (path, run):
        for model in ("synth:nano", "synth:nano-moe"):
            for devices in ("cpu", "cpu:2"):
                run("generate", model, *NANO[2:], "--devices", devices, "--seed", "1")
        out, _ = run("runs", "compare", "last~3", "last")
        assert "A and B differ in model, devices: " in out and "mixes" not in out, out
        assert re.search(r"^model +synth:nano +synth:nano-moe$", out, re.M), out
        out, _ = run("runs", "compare", "devices=cpu", "devices=cpu:2")
        assert "A and B differ in devices: " in out and "A mixes runs that differ in model: " in out, out
        assert "synth:nano and others" in out and out.count("synth:nano, synth:nano-moe") == 2, out
        assert "the conditions are the same" in run("runs", "compare", "last", "last")[0]
        unlike = document(run, "compare", "last~3,last~2", "last")["unlike"]
        assert {u["name"]: (u["a"], u["b"]) for u in unlike} == {
            "model": (["synth:nano"], ["synth:nano-moe"]), "devices": (["cpu", "cpu:2"], ["cpu:2"])}, unlike
        run("runs", "compare", "last~3", "last", "--report", str(path.parent / "c.html"))
        assert "A and B differ in model, devices" in (path.parent / "c.html").read_text()


@case
def exports_are_whole():
    with store() as (path, run):
        run(*NANO)
        run("validate-perf", "--log", LOG, status=1)
        wanted = rows(path, "SELECT run, kind, name, unit, value FROM figures ORDER BY rowid")
        table = list(csv.DictReader(io.StringIO(run("runs", "export")[0], newline="")))
        assert [(r["run"], r["kind"], r["name"], r["unit"], float(r["value"])) for r in table] == wanted
        whole = document(run, "export")["runs"]
        assert [r["command"] for r in whole] == ["generate", "validate-perf"]
        assert len(whole[1]["findings"]) == rows(path, "SELECT count(*) FROM findings")[0][0] > 3


@case
def runs_are_taken_out():
    with store() as (path, run):
        for _ in range(6):
            run(*NANO)
        ids = [r["id"] for r in document(run, "list")["runs"]]
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute("INSERT INTO baselines VALUES('http://x', ?, '')", (ids[0],))
            db.execute("UPDATE runs SET at = '2020-01-01T00:00:00.000Z' WHERE number <= 3")

        def left():
            return [r["id"] for r in document(run, "list")["runs"]]
        run("runs", "rm", "last", "last~1", "--dry-run")
        assert left() == ids
        run("runs", "rm", "last", "last~1")
        assert left() == ids[:4]
        assert "is a baseline" in run("runs", "rm", ids[0], status=3)[1]
        run("runs", "prune", "--older-than", "400d", "--keep", "2")
        assert left() == [ids[0], *ids[1:4]]  # of the three old ones two are kept, and one is a baseline
        run("runs", "prune", "--older-than", "400d")
        assert left() == [ids[0], ids[3]]
        run("runs", "prune", "--keep", "1", "--force")
        assert left() == [ids[3]]
        assert rows(path, "SELECT count(*) FROM figures WHERE run <> ?", ids[3]) == [(0,)]
        assert "baseline" not in run("runs", "show")[0]
        assert "would remove" in run("runs", "prune", "--keep", "0", "--dry-run")[1] and left() == [ids[3]]
        run("runs", "prune", "--keep", "0")
        assert left() == []
        assert "nothing to remove" in run("runs", "prune", "--keep", "0")[1]


class Page(html.parser.HTMLParser):
    """Elements that are open must be closed; what a page may not have is collected."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.words = [], [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("src", "href", "xlink:href", "style") or k.startswith("on")]
        if tag not in ("meta", "br", "rect", "line", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.words.append(data)


@case
def pages_are_whole_small_and_harmless():
    evil = "</code><script>alert(1)</script><img src=x onerror=y> \x1b[2J \u202e \" ' &amp;"
    with store() as (path, run):
        folder = path.parent.parent
        log = folder / "vllm.log"
        log.write_text("".join(f"(EngineCore pid=6890) ERROR 08-03 21:49:{i % 60:02} [core.py:1231] "
                               f"torch.OutOfMemoryError: CUDA out of memory. {evil} {i}\n" for i in range(3000)))
        run("validate-perf", "--log", str(log), "--report", str(folder / "log.html"), status=1)
        run("validate-perf", "--log", LOG, "--report", str(folder / "known.html"), "--no-store", status=1)
        run(*NANO)
        run(*NANO, "--devices", "cpu:4")
        run("runs", "show", "--report", str(folder / "run.html"))
        run("runs", "compare", "--report", str(folder / "compare.html"))
        for name, svgs in (("log", 1), ("known", 1), ("run", 3), ("compare", 1)):
            text = (folder / f"{name}.html").read_text()
            assert len(text) < 300_000, (name, len(text))
            page = Page(text)
            assert page.tags.count("svg") >= svgs and "script" not in page.tags and "img" not in page.tags, name
            assert not page.links, (name, page.links)
            assert not re.search(r"@import|url\(|[\x00-\x09\x0b-\x1f\u202e]", text), name
            for svg in re.findall(r"<svg.*?</svg>", text, re.S):
                xml.etree.ElementTree.fromstring(svg)
        assert "alert(1)" in "".join(Page((folder / "log.html").read_text()).words)
        assert "kv_too_small" in (folder / "known.html").read_text()
        assert "no such" in run("runs", "show", "--report", str(folder / "none/x.html"), status=3)[1].lower()


@case
def several_processes_write_at_once():
    with store() as (path, run):
        at_once = [subprocess.Popen([MUSTER, *NANO], env=dict(os.environ, MUSTER_STORE=str(path)),
                                    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(8)]
        errors = [p.communicate(timeout=100)[1] for p in at_once]
        assert not any(errors), errors
        assert rows(path, "SELECT count(DISTINCT number), count(DISTINCT id) FROM runs") == [(8, 8)]


@case
def a_kill_loses_the_run_at_work_and_no_other():
    with store() as (path, run):
        run(*NANO)
        whole = rows(path, "SELECT (SELECT count(*) FROM figures), (SELECT count(*) FROM settings)")[0]
        start = time.monotonic()
        run(*NANO)
        usual = time.monotonic() - start
        random.seed(8)
        said = 2
        for _ in range(60):
            one = subprocess.Popen([MUSTER, *NANO, "--json"], env=dict(os.environ, MUSTER_STORE=str(path)),
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            time.sleep(random.uniform(0, 1.3 * usual))
            one.kill()
            said += bool(one.communicate()[0].strip())  # what was shown as done was kept before
        n = len(document(run, "list")["runs"])
        assert n >= said > 2, (n, said)
        assert rows(path, "PRAGMA integrity_check") == [("ok",)]
        for kept in rows(path, "SELECT (SELECT count(*) FROM figures WHERE run = id),"
                               " (SELECT count(*) FROM settings WHERE run = id) FROM runs"):
            assert kept == whole, (kept, whole)
        run(*NANO)
        assert len(document(run, "list")["runs"]) == n + 1


finish()
