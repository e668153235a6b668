"""Slurm on the machines of a lab: a controller and nodes, from Debian's packages.

How to use: `with slurm(lab, packages) as cluster: cluster.submit(script)`; `installed(packages, PACKAGES, KEY)` once (packages.py).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.lab import NETWORK, SHARED, Lab
from tests.cluster.packages import SEEN

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
CONTROLLER, NODES = 9, (2, 3)
"""Numbers of the lab's machines."""
PATIENCE_S = 1200
KEY = """
head -c 1024 /dev/urandom > /etc/munge/munge.key
chown munge:munge /etc/munge/munge.key
chmod 400 /etc/munge/munge.key
"""
SET_UP = (
    SEEN
    + """
mkdir -p /run/munge /run/slurm
mount -t tmpfs tmpfs /var/log
mount -t tmpfs tmpfs /var/lib
mkdir -p /var/log/munge /var/lib/munge /var/log/slurm
chown munge:munge /run/munge /var/log/munge /var/lib/munge
chmod 755 /run/munge
su -s /bin/sh munge -c /usr/sbin/munged
export SLURM_CONF=/mnt/shared/slurm.conf
"""
)
CONFIGURATION = """
ClusterName=lab
SlurmctldHost=node-9
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=/mnt/shared/slurm-state
SlurmdSpoolDir=/run/slurm/%n
SlurmdPidFile=/run/slurmd-%n.pid
SlurmctldPidFile=/run/slurmctld.pid
SlurmctldLogFile=/mnt/shared/slurmctld.log
SlurmdLogFile=/mnt/shared/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
KillWait=30
SlurmdTimeout=15
"""


class Slurm:
    """The cluster as its users see it."""

    def __init__(self, machines: Lab) -> None:
        self._machines = machines

    def submit(self, script: Path) -> str:
        """Queue a script that lies in the shared directory; returns the job's number."""
        return self.ask("sbatch", "--parsable", f"--output={SHARED}/job-%j.log", str(SHARED / script.name)).strip()

    def state(self, job: str) -> dict[str, str]:
        """What is known of a job."""
        words = self.ask("scontrol", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, job: str) -> tuple[str, int]:
        """The state and the exit code of a job that has ended."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := self.state(job))["JobState"] in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED"):
            assert time.monotonic() < deadline, found
            time.sleep(1)
        return found["JobState"], int(found["ExitCode"].split(":")[0])

    def log(self, job: str) -> str:
        """What a job has printed."""
        return (self._machines.shared / f"job-{job}.log").read_text()

    def ask(self, *command: str) -> str:
        """The answer of one of Slurm's commands."""
        done = self._machines.on_node(CONTROLLER, ["env", f"SLURM_CONF={SHARED}/slurm.conf", *command])
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start_node(self, number: int) -> None:
        """A node that takes jobs."""
        self._machines.start(number, ["slurmd", "-D", "-N", f"node-{number}"], self._machines.set_up)


@contextmanager
def slurm(machines: Lab, packages: Path) -> Iterator[Slurm]:
    """A controller and two nodes with two CPUs each."""
    nodes = [f"NodeName=node-{number} NodeAddr={NETWORK}.{number} CPUs=2 State=UNKNOWN" for number in NODES]
    names = ",".join(f"node-{number}" for number in NODES)
    partition = f"PartitionName=main Nodes={names} Default=YES MaxTime=INFINITE State=UP"
    (machines.shared / "slurm.conf").write_text("\n".join([CONFIGURATION.strip(), *nodes, partition]) + "\n")
    machines.set_up = f"PACKAGES={packages}\n{SET_UP}"
    machines.start(CONTROLLER, ["slurmctld", "-D", "-c"], machines.set_up)
    cluster = Slurm(machines)
    for number in NODES:
        cluster.start_node(number)
    deadline = time.monotonic() + PATIENCE_S
    while (
        machines.on_node(CONTROLLER, ["env", f"SLURM_CONF={SHARED}/slurm.conf", "sinfo", "-h", "-t", "idle", "-o", "%D"]).stdout.strip()
        != "2"
    ):
        assert time.monotonic() < deadline, machines.log(CONTROLLER) + machines.log(NODES[0])
        time.sleep(0.5)
    yield cluster
