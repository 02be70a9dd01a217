"""Ranks as processes: how the scripts start them with mpirun, find them, and look for what is left."""
import glob
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time

from _case import MUSTER, Skip

# Open MPI leaks at its end, out of modules that are unloaded by then: those reports cannot be told from ours.
ENV = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", ASAN_OPTIONS=os.environ.get(
    "ASAN_OPTIONS", "").replace("detect_leaks=1", "detect_leaks=0") or "detect_leaks=0")
MPIRUN = ["mpirun", "--oversubscribe"]


def need_mpi():
    if not shutil.which("mpirun"):
        raise Skip("Open MPI is not installed")
    if not (pathlib.Path(MUSTER).parent / "libmuster-mpi.so").exists():
        raise Skip("the MPI plug-in was not built")


def launch(*parts, prefix=()):
    """Starts mpirun; a part is (ranks, environment, words of muster) or has another program first."""
    command = [*prefix, *MPIRUN]
    for i, (n, env, words) in enumerate(parts):
        program = [] if str(words[0]).startswith("/") else [MUSTER]
        settings = ["env", *(f"{k}={v}" for k, v in env.items())] if env else []
        command += ([":"] if i else []) + ["-n", str(n), *settings, *program, *words]
    return subprocess.Popen(command, env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, start_new_session=True)


def finish_run(process, timeout=60):
    """(exit status, stdout, what muster itself said) once it is over."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        out, err = process.communicate()
        raise AssertionError(f"no end after {timeout} s: {err.decode(errors='replace')}") from None
    err = err.decode(errors="replace")
    said = [line for line in err.splitlines() if line.startswith("muster: ")]
    return process.returncode, out.decode(errors="replace"), said, err


def read_until(stream, enough, seconds):
    """What a pipe gives until it is enough, it ends, or the time runs out."""
    text, end = b"", time.monotonic() + seconds
    while not enough(text):
        left = end - time.monotonic()
        if left <= 0 or not select.select([stream], [], [], left)[0]:
            break
        piece = os.read(stream.fileno(), 65536)
        if not piece:
            break
        text += piece
    return text


def parents():
    """{process: parent} of all that run."""
    found = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        fields = text.rpartition(")")[2].split()
        if fields[0] != "Z":
            found[int(path.split("/")[2])] = int(fields[1])
    return found


def below(process):
    """All descendants."""
    tree, found, fresh = parents(), set(), {process}
    while fresh:
        fresh = {child for child, parent in tree.items() if parent in fresh} - found
        found |= fresh
    return found


def variable(process, name):
    try:
        with open(f"/proc/{process}/environ", "rb") as file:
            for entry in file.read().split(b"\0"):
                if entry.startswith(name.encode() + b"="):
                    return entry.partition(b"=")[2].decode()
    except OSError:
        pass
    return None


def rank_process(launcher, rank, watcher=False, variable_name="OMPI_COMM_WORLD_RANK"):
    """The process that is this rank, or the one that watches it."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        mine = [p for p in below(launcher) if variable(p, variable_name) == str(rank)]
        tree = parents()
        for p in mine:
            if (tree.get(p) in mine) != watcher and (watcher or tree.get(p) in mine):
                if not watcher or any(tree.get(q) == p for q in mine):
                    return p
        time.sleep(0.02)
    raise AssertionError(f"rank {rank} is not there")


def leftovers():
    """What Open MPI and we keep while ranks run."""
    temporary = tempfile.gettempdir()
    return {path for pattern in ("/dev/shm/*vader*", "/dev/shm/*ompi*", f"{temporary}/ompi.*/*")
            for path in glob.glob(pattern)}
