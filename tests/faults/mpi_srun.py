"""Ranks that srun starts: a Slurm of one machine, in a folder of its own, while the script runs.

Needs root and Debian's slurmctld, slurmd, slurm-client and munge.
"""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
from _case import MUSTER, Skip, case, finish, muster  # noqa: E402
from _mpi import ENV, finish_run, need_mpi, parents, read_until, variable  # noqa: E402

TOOLS = ("munged", "slurmctld", "slurmd", "srun", "sinfo")
ASKED = ["generate", "synth:micro", "--tokens", "1,2,3", "-n", "8", "--greedy", "--ignore-eos", "--json"]
LONG = ["generate", "synth:smollm2-135m@q4_0", "--tokens", "1,2,3", "-n", "8000", "--ignore-eos", "--greedy", "--tp", "4"]
START_S, TOLD_S = 30, 5
CONFIG = """ClusterName=muster
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={other}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SwitchType=switch/none
SlurmdParameters=config_overrides
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES State=UP
"""


def free_ports():
    with socket.socket() as a, socket.socket() as b:
        a.bind(("127.0.0.1", 0))
        b.bind(("127.0.0.1", 0))
        return a.getsockname()[1], b.getsockname()[1]


class Slurm:
    """A controller and a node on this machine, while the block lasts."""

    def __enter__(self):
        need_mpi()
        if os.geteuid() != 0:
            raise Skip("only root can start Slurm's daemons")
        for tool in TOOLS:
            if not shutil.which(tool):
                raise Skip(f"{tool} is not here")
        self.folder = tempfile.mkdtemp(prefix="muster-slurm-")
        self.daemons, self.runs = [], []
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        here, (port, other) = pathlib.Path(self.folder), free_ports()
        for name in ("state", "spool"):
            (here / name).mkdir()
        (here / "key").write_bytes(os.urandom(1024))
        (here / "key").chmod(0o600)
        (here / "slurm.conf").write_text(CONFIG.format(host=socket.gethostname().partition(".")[0], folder=self.folder,
                                                       port=port, other=other))
        self.env = dict(ENV, SLURM_CONF=f"{self.folder}/slurm.conf")
        self.daemon("munged", "-F", "--force", f"--key-file={here}/key", f"--socket={here}/munge.socket",
                    f"--pid-file={here}/munged.pid", f"--log-file={here}/munged.log", f"--seed-file={here}/seed")
        end = time.monotonic() + START_S
        while not (here / "munge.socket").exists() and time.monotonic() < end:
            time.sleep(0.1)
        self.daemon("slurmctld", "-D", "-c")
        self.daemon("slurmd", "-D")
        while b"idle" not in subprocess.run(["sinfo", "-h", "-o", "%T"], env=self.env, capture_output=True, timeout=60,
                                            check=False).stdout:
            if time.monotonic() > end:
                raise Skip("Slurm's daemons do not start here")
            time.sleep(0.3)

    def daemon(self, *words):
        self.daemons.append(subprocess.Popen(words, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                             stderr=subprocess.DEVNULL, start_new_session=True))

    def __exit__(self, *_):
        for run in self.runs:
            if run.poll() is None:
                run.kill()
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def rank(self, number):
        """Its process; the one above it, which srun started, is its watcher. Neither is below srun."""
        tree = parents()
        mine = {p for p in tree if variable(p, "SLURM_CONF") == self.env["SLURM_CONF"] and
                variable(p, "PMIX_RANK") == str(number)}
        return next(p for p in mine if tree[p] in mine)

    def launch(self, n, *words):
        run = subprocess.Popen(["srun", "--mpi=pmix", "-n", str(n), MUSTER, *words], env=self.env,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)
        self.runs.append(run)
        return run


@case
def answers_have_the_same_bits():
    alone = json.loads(muster(*ASKED)[0])["digest"]
    with Slurm() as slurm:
        for n, *words in ((4, "--tp", "4"), (4, "--tp", "2", "--pp", "2"), (2, "--device-map", "auto"),
                          (2, "--devices", "cpu:2", "--tp", "2", "--dp", "2")):
            code, out, said, err = finish_run(slurm.launch(n, *ASKED, *words))
            assert code == 0 and not said, (words, err)
            assert json.loads(out)["digest"] == alone, words


@case
def a_killed_and_a_stopped_rank():
    for number, word in ((signal.SIGKILL, "was killed by SIGKILL in step "),
                         (signal.SIGSTOP, "was stopped by a signal in step ")):
        with Slurm() as slurm:
            run = slurm.launch(4, *LONG)
            assert read_until(run.stdout, len, START_S), read_until(run.stderr, len, 1)
            victim = slurm.rank(2)
            since = time.monotonic()
            os.kill(victim, number)
            told = read_until(run.stderr, lambda text: b"muster: " in text and text.endswith(b"\n"), 2 * TOLD_S)
            assert time.monotonic() - since < TOLD_S, told
            _, _, _, err = finish_run(run, timeout=20)
            said = [line for line in (told.decode() + err).splitlines() if line.startswith("muster: ")]
            assert len(said) == 1 and "rank 2 on host " in said[0] and word in said[0], said
            assert run.returncode != 0
            assert victim not in parents()


finish()
