"""A real Slurm of one node, on loopback, in a folder of its own; nothing outside it is touched.

No service manager, no control groups and no database: `munged`, `slurmctld` and `slurmd` run in the
foreground as children of this process on free ports, for root in a container or for a user. What
they and their jobs started is found by the folder's name in its environment and stopped by its
process id. The node's cards are plain files, handed out as GPUs are: a job that asks for one gets
one, and no two jobs get the same.

    python tests/support/slurm_cluster.py COMMAND ...      runs a command with such a Slurm
"""

import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
PARTITION = "tests"

CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ReturnToService=2
KillWait=5
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/completed.txt
GresTypes=gpu
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} CPUs={cpus} \
RealMemory={memory_mb} Gres=gpu:{cards} State=UNKNOWN
PartitionName={partition} Nodes=node Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Programs of Slurm that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job that has ended, as Slurm's own completion log has it."""

    id: str
    state: str
    minutes: int
    cpus: int
    mem_mb: int


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A running Slurm and what a program needs in its environment to use it."""

    folder: Path
    environment: Mapping[str, str]

    def tell(self, *command: str) -> str:
        """What one of Slurm's commands prints; an error ends the test with its words."""
        done = subprocess.run(
            command, env=dict(self.environment), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Every job that Slurm still remembers, with all that `scontrol show job` says of it."""
        lines = self.tell("scontrol", "--details", "--oneliner", "show", "job").splitlines()
        return [dict(re.findall(r"(\S+?)=(\S+)", line)) for line in lines if "JobId=" in line]

    def completed(self) -> list[Job]:
        """The jobs that have ended, in the order in which they did."""
        log = self.folder / "completed.txt"
        found = []
        for line in log.read_text().splitlines() if log.exists() else []:
            fields = dict(re.findall(r"(\w+)=(\S*)", line))
            asked = dict(part.split("=") for part in re.search(r"Tres=(\S+)", line)[1].split(","))
            found.append(
                Job(
                    id=fields["JobId"],
                    state=fields["JobState"],
                    minutes=int(fields["TimeLimit"]),
                    cpus=int(asked["cpu"]),
                    mem_mb=_megabytes(asked["mem"]),
                )
            )
        return found


def _megabytes(text: str) -> int:
    units = {"M": 1, "G": 1024, "T": 1024**2}
    return round(float(text[:-1]) * units[text[-1]])


@contextmanager
def cluster(*, cpus: int = 2, cards: int = 2, memory_mb: int = 16000) -> Iterator[Cluster]:
    """A Slurm that is ready for jobs; on leaving, all of it is stopped and its folder removed.

    The node has so many cores and so much memory in Slurm's books, whatever the machine has.
    """
    # not pytest's folder: a socket's path may have a hundred characters, and munge is particular
    # about who may enter the folders above it
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    environment = _write(folder, cpus=cpus, cards=cards, memory_mb=memory_mb)
    started: list[subprocess.Popen] = []
    try:
        _start(folder, environment, started)
        slurm = Cluster(folder=folder, environment=environment)
        _wait(lambda: slurm.tell("sinfo", "--noheader", "--format=%T") == "idle\n", folder)
        yield slurm
    finally:
        _stop(environment, started)
        shutil.rmtree(folder, ignore_errors=True)


def _write(folder: Path, **node: int) -> dict[str, str]:
    """The configuration of everything; returns the environment of its programs."""
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    controller_port, node_port = _free_ports(2)
    text = CONFIGURATION.format(
        folder=folder,
        host=socket.gethostname().partition(".")[0],
        user=pwd.getpwuid(os.getuid()).pw_name,
        controller_port=controller_port,
        node_port=node_port,
        partition=PARTITION,
        **node,
    )
    (folder / "slurm.conf").write_text(text)
    for card in range(node["cards"]):
        (folder / f"card{card}").touch()
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/card[0-{node['cards'] - 1}]\n")
    # the Slurm plug-in drops SLURM_CONF before it calls srun, which elsewhere lies in /etc
    wrapper = folder / "bin" / "srun"
    real = shutil.which("srun", path=PATH)
    wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {real} "$@"\n')
    wrapper.chmod(0o755)
    path = os.pathsep.join([str(wrapper.parent), PATH])
    return {**os.environ, "PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _start(folder: Path, environment: Mapping[str, str], started: list[subprocess.Popen]) -> None:
    def start(name: str, *arguments: str) -> None:
        program = shutil.which(name, path=PATH)
        with (folder / f"{name}.log").open("w") as log:
            started.append(
                subprocess.Popen(
                    [str(program), *arguments],
                    env=dict(environment),
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid"}
    files |= {"log-file": "munged-own.log", "seed-file": "munged.seed"}
    start("munged", "--foreground", *(f"--{k}={folder / v}" for k, v in files.items()))
    _wait((folder / "munge.socket").exists, folder)
    start("slurmctld", "-D")
    start("slurmd", "-D", "-N", "node")


def _wait(ready: Callable[[], bool], folder: Path, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except RuntimeError:  # the controller does not answer yet
            pass
        time.sleep(0.2)
    logs = "\n".join(f"{p.name}:\n{p.read_text()[-2000:]}" for p in sorted(folder.glob("*.log")))
    raise RuntimeError(f"Slurm was not ready within {seconds:.0f} s\n{logs}")


def _stop(environment: Mapping[str, str], started: list[subprocess.Popen]) -> None:
    """Stop the daemons, and what jobs have left, by process id."""
    for process in reversed(started):
        process.terminate()
    for process in started:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pid in left_over(environment["SLURM_CONF"]):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def left_over(conf: str) -> list[int]:
    """Processes that were started with this configuration of Slurm in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is another user's
            continue
        if f"SLURM_CONF={conf}".encode() in variables and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


if __name__ == "__main__":
    with cluster() as running:
        done = subprocess.run(sys.argv[1:], env=dict(running.environment), check=False)
    sys.exit(done.returncode)
