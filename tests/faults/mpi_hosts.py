"""Ranks on two hosts: network namespaces with a host name and an sshd each, joined by a cable that can be cut.

Needs root, Open MPI, ip and sshd.
"""
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
from _case import MUSTER, Skip, case, finish, muster  # noqa: E402
from _mpi import ENV, finish_run, need_mpi, parents, read_until, variable  # noqa: E402

NET = "10.231.7."
PORT = "2207"
SPACES = ("muster-a", "muster-b")
SSHD = "/usr/sbin/sshd"
TOLD_S = 5
START_S = 30  # ssh, and two hosts that load


def sh(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=30).stdout


def inside(space, *words):
    """Words that run as if on that host."""
    return ["ip", "netns", "exec", space, "unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', space, *words]


def command(process):
    try:
        return pathlib.Path(f"/proc/{process}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


class Hosts:
    """Both hosts, while the block lasts."""

    def __enter__(self):
        need_mpi()
        if os.geteuid() != 0:
            raise Skip("only root can make hosts")
        for tool in ("ip", "unshare", "ssh-keygen", "ssh"):
            if not shutil.which(tool):
                raise Skip(f"{tool} is not here")
        if not os.path.exists(SSHD):
            raise Skip("sshd is not here")
        self.folder = tempfile.mkdtemp(prefix="muster-hosts-")
        self.sshd = None
        self.clear()
        try:
            self.make()
        except (subprocess.CalledProcessError, OSError) as why:
            self.__exit__()
            raise Skip(f"no hosts can be made: {getattr(why, 'stderr', None) or why}") from None
        return self

    def make(self):
        for space in SPACES:
            sh("ip", "netns", "add", space)
            sh("ip", "-n", space, "link", "set", "lo", "up")
        sh("ip", "-n", SPACES[0], "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", SPACES[1])
        for i, space in enumerate(SPACES):
            sh("ip", "-n", space, "addr", "add", f"{NET}{i + 1}/24", "dev", "cable")
            sh("ip", "-n", space, "link", "set", "cable", "up")
        for name in ("host", "user"):
            sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{self.folder}/{name}")
        os.makedirs("/run/sshd", exist_ok=True)
        pathlib.Path(self.folder, "config").write_text(
            f"Port {PORT}\nHostKey {self.folder}/host\nAuthorizedKeysFile {self.folder}/user.pub\nStrictModes no\n"
            f"UsePAM no\nPidFile none\nPermitRootLogin yes\nPasswordAuthentication no\n")
        self.sshd = subprocess.Popen(inside(SPACES[1], SSHD, "-D", "-e", "-f", f"{self.folder}/config"),
                                     stderr=subprocess.DEVNULL, start_new_session=True)

    def clear(self):
        for space in SPACES:
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)

    def __exit__(self, *_):
        for process in parents():
            if self.folder in command(process):
                os.kill(process, signal.SIGKILL)
        if self.sshd:
            os.killpg(self.sshd.pid, signal.SIGKILL)
            self.sshd.wait()
        self.clear()
        # What mpirun and its daemon had no time to remove.
        for path in glob.glob("/dev/shm/vader_segment.muster-[ab].*"):
            os.unlink(path)
        for path in glob.glob(f"{tempfile.gettempdir()}/ompi.muster-[ab].*") + glob.glob("/tmp/ompi.muster-[ab].*"):
            shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(self.folder)

    def members(self):
        """Ranks and their watchers, wherever they are."""
        return [p for p in parents() if variable(p, "MUSTER_HOSTS") == self.folder and command(p).startswith(MUSTER)]

    def launch(self, *words):
        ssh = (f"-p {PORT} -i {self.folder}/user -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
               "-o LogLevel=ERROR -o ConnectTimeout=5 -o ConnectionAttempts=3")
        mpirun = ["mpirun", "--oversubscribe", "--host", f"{NET}1:2,{NET}2:2", "-n", "4", "--mca", "plm_rsh_args", ssh,
                  "--mca", "btl_tcp_if_include", f"{NET}0/24", "--mca", "oob_tcp_if_include", f"{NET}0/24",
                  "-x", "MUSTER_HOSTS"]
        return subprocess.Popen(inside(SPACES[0], *mpirun, MUSTER, *words), env=dict(ENV, MUSTER_HOSTS=self.folder),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                start_new_session=True)


@case
def two_hosts_have_the_same_bits():
    asked = ["generate", "synth:micro", "--tokens", "1,2,3", "-n", "16", "--greedy", "--ignore-eos", "--json"]
    with Hosts() as hosts:
        code, out, said, err = finish_run(hosts.launch(*asked, "--tp", "2", "--pp", "2"))
        assert code == 0 and not said, err
        assert json.loads(out)["digest"] == json.loads(muster(*asked)[0])["digest"]


@case
def a_cut_cable():
    words = ["generate", "synth:smollm2-135m@q4_0", "--tokens", "1,2,3", "-n", "8000", "--ignore-eos", "--greedy",
             "--tp", "2", "--pp", "2"]
    for _ in range(int(os.environ.get("TIMES", "1"))):
        with Hosts() as hosts:
            run = hosts.launch(*words)
            assert read_until(run.stdout, len, START_S), read_until(run.stderr, len, 1)
            since = time.monotonic()
            sh("ip", "-n", SPACES[0], "link", "set", "cable", "down")
            told = read_until(run.stderr, lambda text: b"muster: " in text and text.endswith(b"\n"), 2 * TOLD_S)
            assert time.monotonic() - since < TOLD_S, (time.monotonic() - since, told)
            assert b" on host muster-b has not been heard of for 3 s in step " in told, told
            end = since + TOLD_S + 1
            while hosts.members() and time.monotonic() < end:
                time.sleep(0.1)
            assert not hosts.members()
            # mpirun's own daemons cannot reach each other either, and 4.1 waits for them until it is told twice.
            os.killpg(run.pid, signal.SIGKILL)
            run.wait(timeout=10)


finish()
