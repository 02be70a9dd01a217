"""What happens when a rank dies, stops, fails or disagrees: within 5 s one message that names it, status 5, nothing
left behind. Each fault once; TIMES=10 for more (make faults)."""
import glob
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from _case import MUSTER, ROOT, Skip, case, finish  # noqa: E402
from _mpi import (below, finish_run, launch, leftovers, need_mpi, parents, rank_process,  # noqa: E402
                  read_until)

TIMES = int(os.environ.get("TIMES", "1"))
N = 4
LONG = ["generate", "synth:smollm2-135m@q4_0", "--tokens", "1,2,3", "-n", "8000", "--ignore-eos", "--greedy", "--tp", "4"]
SHORT = ["generate", "synth:nano", "--tokens", "1,2,3", "-n", "40", "--ignore-eos", "--greedy"]
TOLD_S = 5


def started():
    """A run that is producing tokens."""
    need_mpi()
    run = launch((N, {}, LONG))
    assert run.stdout.read(8), run.stderr.read()
    return run


def ends(run, since, *words, statuses=(5,)):
    """Once it is over: in time, with one message that has these words, and no process left."""
    group = below(run.pid)
    code, _, said, err = finish_run(run, timeout=20)
    took = time.monotonic() - since
    assert code in statuses, (code, err)
    assert len(said) == 1, err
    for word in words:
        assert word in said[0], (word, said)
    assert took < TOLD_S, (took, said)
    gone(group)


def gone(processes, seconds=1):
    """None of them is left, but for what the system still takes apart."""
    left, end = set(processes), time.monotonic() + seconds
    while left and time.monotonic() < end:
        left &= parents().keys()
        time.sleep(0.05)
    assert not left, [pathlib.Path(f"/proc/{p}/cmdline").read_text() for p in left]


def victims():
    """One rank after the other; of few, the first and one that only follows."""
    return [turn % N for turn in range(TIMES)] if TIMES > 1 else [0, 2]


def with_signal(number, watcher, *words, statuses=(5,)):
    before = leftovers()
    for rank in victims():
        run = started()
        victim = rank_process(run.pid, rank, watcher)
        since = time.monotonic()
        os.kill(victim, number)
        ends(run, since, f"rank {rank} on host ", *words, statuses=statuses)
    assert leftovers() <= before, leftovers() - before


@case
def a_killed_rank():
    with_signal(signal.SIGKILL, False, "was killed by SIGKILL in step ", "its last words: ")


@case
def a_stopped_rank():
    with_signal(signal.SIGSTOP, False, "was stopped by a signal in step ", "its last words: ")


@case
def a_rank_lost_before_they_meet():
    """mpirun 4.1 may wait for ever for one that was killed while it connected; only it is left then."""
    need_mpi()
    for number, word in ((signal.SIGKILL, b" was killed by SIGKILL "), (signal.SIGSTOP, b" was stopped by a signal ")):
        for rank in victims():
            run = launch((N, {}, LONG))
            victim = rank_process(run.pid, rank)
            group, since = below(run.pid), time.monotonic()
            os.kill(victim, number)
            told = read_until(run.stderr, lambda text: b"muster: " in text and text.endswith(b"\n"), 2 * TOLD_S)
            took = time.monotonic() - since
            assert took < TOLD_S, (took, told)
            assert told.count(b"muster: ") == 1 and b"rank %d on host " % rank in told and word in told, told
            gone(group, 3)
            try:
                run.communicate(timeout=3)
            except subprocess.TimeoutExpired:
                run.kill()
                run.communicate()
                shutil.rmtree(glob.glob(f"{tempfile.gettempdir()}/ompi.*/pid.{run.pid}")[0])


@case
def a_killed_watcher():
    # mpirun itself says 137 then: it saw the process that it started die of a signal.
    with_signal(signal.SIGKILL, True, "is gone with its watcher in step ", "its last words: ", statuses=(5, 137))


@case
def a_stopped_watcher():
    with_signal(signal.SIGSTOP, True, "has not been heard of for 3 s in step ", "its last words: ")


@case
def a_rank_that_fails_in_a_step():
    need_mpi()
    if subprocess.run([MUSTER, *SHORT, "-n", "1"], env=dict(os.environ, MUSTER_FAULT="step:1"), capture_output=True,
                      timeout=60, check=False).returncode == 0:
        raise Skip("this build has no fault points")
    words = [*SHORT, "--tp", "2", "--pp", "2"]
    for rank in victims():
        parts = [(1, {"MUSTER_FAULT": "step:7"} if i == rank else {}, words) for i in range(N)]
        since = time.monotonic()
        ends(launch(*parts), since, f"rank {rank} ", "on host ", "step 6", "MUSTER_FAULT")


@case
def a_thread_that_fails_in_a_step():
    done = subprocess.run([MUSTER, *SHORT, "--devices", "cpu:4", "--tp", "2", "--pp", "2"],
                          env=dict(os.environ, MUSTER_FAULT="step:9"), capture_output=True, timeout=60, check=False)
    if done.returncode == 0:
        raise Skip("this build has no fault points")
    told = done.stderr.decode()
    assert done.returncode == 5 and told.count("\n") == 1 and "rank " in told and "failed in step 2" in told, told


@case
def plans_and_models_that_differ():
    need_mpi()
    base = SHORT + ["--tp", "2"]
    for other, word in ((SHORT + ["--pp", "2"], "option --tp"), (base + ["--compute", "f32"], "option --compute"),
                        (base + ["--cpu", "ref"], "kernel family"),
                        (["generate", "synth:nano@q8_0", *base[2:]], "table of tensors"),
                        (base + ["--devices", "cpu:2"], "number of devices")):
        for _ in range(TIMES):
            since = time.monotonic()
            ends(launch((1, {}, base), (1, {}, other)), since, "rank 1 on host ", "rank 0 on host ", word)


@case
def a_budget_one_byte_too_small():
    need_mpi()
    words = [*SHORT, "--tp", "2"]
    code, out, said, err = finish_run(launch((2, {}, [*words, "--json"])))
    assert code == 0 and not said, err
    need = json.loads(out)["measured"]["devices"][1]["total_bytes"]
    for _ in range(TIMES):
        run = launch((1, {}, words), (1, {}, [*words, "--devices", f"cpu:1x{need}"]))
        assert finish_run(run)[0] == 0
        since = time.monotonic()
        run = launch((1, {}, words), (1, {}, [*words, "--devices", f"cpu:1x{need - 1}"]))
        ends(run, since, "1/cpu needs ", ", 1 B more than its budget of ", statuses=(4,))


@case
def a_rank_without_the_model():
    need_mpi()
    for _ in range(TIMES):
        since = time.monotonic()
        ends(launch((1, {}, SHORT), (1, {}, ["generate", "synth:none", *SHORT[2:]])), since, "rank 1 on host ",
             "no model named 'none'")


@case
def versions_that_differ():
    need_mpi()
    version = (ROOT / "VERSION").read_text().strip().encode()
    other = version[:-1] + (b"8" if version[-1:] == b"9" else b"9")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("muster", "libmuster-mpi.so"):
            path = pathlib.Path(MUSTER).parent / name
            pathlib.Path(folder, name).write_bytes(path.read_bytes().replace(b"\0" + version + b"\0",
                                                                            b"\0" + other + b"\0"))
        os.chmod(f"{folder}/muster", 0o755)
        for _ in range(TIMES):
            since = time.monotonic()
            ends(launch((1, {}, SHORT), (1, {}, [f"{folder}/muster", *SHORT])), since, "rank 1 on host ",
                 version.decode(), other.decode())


@case
def a_full_shared_memory():
    """Open MPI then takes other ways; whatever it does, the run works or ends with one message."""
    need_mpi()
    if os.geteuid() != 0 or not shutil.which("unshare"):
        raise Skip("only root can fill a /dev/shm of its own")
    fill = "mount -t tmpfs -o size=8k none /dev/shm && head -c 100000 /dev/zero > /dev/shm/full; exec \"$@\""
    for _ in range(TIMES):
        since = time.monotonic()
        run = launch((2, {}, [*SHORT, "--tp", "2"]), prefix=["unshare", "-m", "sh", "-c", fill, "sh"])
        code, _, said, err = finish_run(run, timeout=20)
        assert time.monotonic() - since < TOLD_S + 5, err
        assert (code == 0 and not said) or (code == 5 and len(said) == 1), (code, err)


@case
def an_interrupted_run():
    for number in (signal.SIGINT, signal.SIGTERM):
        run = started()
        group = below(run.pid)
        os.kill(run.pid, number)
        finish_run(run, timeout=10)
        gone(group)


finish()
