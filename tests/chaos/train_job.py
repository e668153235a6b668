"""A training on a Ray of its own, in a process that can be killed: `python -m tests.chaos.train_job JOB.json RAYLETS NODES`.

With two nodes each holds one CPU, so one worker; RAYLETS receives the second one's process id, its node id and the cluster's address. A
file `trained` beside the metrics says that the training has ended well: with a node missing, Ray's own end may not.
"""

import json
import os
import sys
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from cgd_ray.training.driver import train
from cgd_ray.training.job import TrainJob


def main(job_file: Path, raylets: Path, num_nodes: int) -> None:
    """Start Ray and train."""
    job = TrainJob(**json.loads(job_file.read_text()))
    if num_nodes == 1:
        ray.init(address="local", num_cpus=2, include_dashboard=False)
    else:
        # A start that counts on a node whose death is not yet known is given up after this, and tried again with what is left.
        os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "20"
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        second = cluster.add_node(num_cpus=1)
        pid = second.all_processes["raylet"][0].process.pid
        raylets.write_text(json.dumps({"pid": pid, "id": second.node_id, "address": cluster.address}))
        ray.init(address=cluster.address)
    train(job)
    Path(job.metrics).with_name("trained").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
