"""A RayJob of KubeRay's with all that it needs but storage and image, from a run's config and few values.

The worker groups follow from the config: each role's engines, and the training's workers, get nodes that fit them, from none to as many as
the config may use. How to use: `cgd cluster render CONFIG --kind kuberay --set image=REGISTRY/IMAGE --set storage=CLAIM`.
"""

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field, model_validator

from cgd_ray.cluster.jobs.upload import check_run_dir
from cgd_ray.cluster.rendering.templates import filled_in
from cgd_ray.config import Config, RoleConfig, named_paths, parse_settings, to_yaml
from cgd_ray.config.base import Count, Settings

SHM_SHARE = 0.3
"""Of a node's memory for Ray's object store, which is Ray's own share."""
Name = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$")]


class KubeRayValues(Settings):
    """What the config does not say."""

    image: str
    """Container image with this package, pinned by tag or digest."""
    storage: Name
    """PersistentVolumeClaim, ReadWriteMany, that all pods mount."""
    shared: str = "/shared"
    """Where they mount it; run_dir and the hub's cache are in it."""
    name: Name = "cgd"
    """Of everything that is made."""
    namespace: Name = "cgd"
    """In which it is made."""
    gpus_per_node: Count = 8
    """Of the trainer's nodes."""
    cpus_per_gpu: Count = 8
    """Of nodes with GPUs."""
    memory_per_gpu_gib: Count = 100
    """Of nodes with GPUs."""
    head_cpus: Count = 8
    """Of the head, which also selects, tokenises and packs, and of nodes without GPUs."""
    head_memory_gib: Count = 32
    """Of the head, and of nodes without GPUs."""
    temporary_gib: Count = 100
    """Room in /tmp of each pod: logs, spilled objects, compiled kernels."""
    node_selector: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)
    """Labels of the nodes for student, teacher, trainer or head, e.g. {student: {cloud.google.com/gke-spot: "true"}}: a lost spot node
    costs engines what is in flight, and a training what came after its last checkpoint."""
    secrets: Mapping[str, str] = Field(default_factory=dict)
    """Environment variables from Secrets, e.g. {HF_TOKEN: hub/token} for the key `token` of the Secret `hub`."""
    token_secret: Name | None = None
    """Secret with Ray's token under auth_token; null has the operator make one."""
    queue: Name | None = None
    """Kueue's local queue that admits the job; null starts it at once."""
    operator_namespace: Name = "kuberay-operator"
    """Where the operator runs, which alone may reach the job server from outside."""
    retries: Annotated[int, Field(ge=0)] = 3
    """New clusters after the first that the job may have to end on."""
    deadline_hours: Count = 168
    """After which it is ended; the same job, created again, goes on."""

    @model_validator(mode="after")
    def _secrets_name_a_key(self) -> "KubeRayValues":
        for name, place in self.secrets.items():
            if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name) or not re.fullmatch(r"[a-z0-9.-]+/[A-Za-z0-9._-]+", place):
                raise ValueError(f"secrets has {name!r}, which is not of the form VARIABLE: SECRET/KEY; never write a secret itself here")
        return self


@dataclass(frozen=True, kw_only=True)
class Group:
    """Nodes of one kind."""

    name: str
    max_pods: int
    gpus: int
    cpus: int
    memory_gib: int
    selector: Mapping[str, str] = field(default_factory=dict)

    @property
    def resources(self) -> dict[str, str]:
        """As Kubernetes has them, requests and limits alike: a node that lends memory kills whoever takes it."""
        gpus = {"nvidia.com/gpu": str(self.gpus)} if self.gpus else {}
        return {"cpu": str(self.cpus), "memory": f"{self.memory_gib}Gi", **gpus}

    @property
    def shm_gib(self) -> int:
        """Of its memory."""
        return max(1, int(self.memory_gib * SHM_SHARE))


def render_kuberay(config: Config, overrides: Sequence[str]) -> str:
    """The manifests. Raises ValueError, one line, for values that are missing or do not fit the config."""
    values = parse_settings(KubeRayValues, overrides)
    _check(config, values)
    groups = worker_groups(config, values)
    head = _group("head", 1, 0, values)
    most = {
        "CPU": sum(group.cpus * group.max_pods for group in (head, *groups)),
        "GPU": sum(group.gpus * group.max_pods for group in groups),
    }
    limits = "{" + ", ".join(f"{name}: {count}" for name, count in most.items() if count) + "}"
    return filled_in(
        "kuberay.yaml.j2",
        values=values,
        config=to_yaml(config).rstrip(),
        entrypoint=shlex.join(["cgd", "run", "/etc/cgd/job.yaml", f"cluster.max_resources={limits}"]),
        secrets={name: place.split("/", 1) for name, place in values.secrets.items()},
        ray_version=version("ray"),
        head=head,
        groups=groups,
    )


def worker_groups(config: Config, values: KubeRayValues) -> list[Group]:
    """Nodes for each role's engines and for the training, each kind as many as the config may use at once."""
    groups = [_engines(name, role, values) for name, role in (("student", config.student), ("teacher", config.teacher)) if role.api is None]
    _, most = config.training.worker_range
    if config.training.use_gpu:
        gpus = min(values.gpus_per_node, most)
        return [*groups, _group("trainer", math.ceil(most / gpus), gpus, values)]
    cpus = most * int(config.training.cpus_per_worker or 1)
    return [*groups, _group("trainer", math.ceil(cpus / values.head_cpus), 0, values)]


def _engines(name: str, role: RoleConfig, values: KubeRayValues) -> Group:
    placement = role.placement
    if placement.gpus_per_replica >= 1:
        return _group(name, placement.max_replicas * placement.nodes_per_replica, int(placement.gpus_per_replica), values)
    if placement.shares_gpu:
        return _group(name, math.ceil(placement.max_replicas * placement.gpus_per_replica), 1, values)
    return _group(name, max(1, math.ceil(placement.max_replicas * placement.cpus_per_replica / values.head_cpus)), 0, values)


def _group(name: str, max_pods: int, gpus: int, values: KubeRayValues) -> Group:
    return Group(
        name=name,
        max_pods=max_pods,
        gpus=gpus,
        cpus=gpus * values.cpus_per_gpu if gpus else values.head_cpus,
        memory_gib=gpus * values.memory_per_gpu_gib if gpus else values.head_memory_gib,
        selector=values.node_selector.get(name, {}),
    )


def _check(config: Config, values: KubeRayValues) -> None:
    check_run_dir(config)
    if not PurePosixPath(config.run_dir).is_relative_to(values.shared):
        raise ValueError(f"run_dir {config.run_dir} is not in {values.shared}, which all pods mount; move it there, or set shared=")
    for setting, path in named_paths(config).items():
        if not path.startswith("/") and Path(path).exists():
            raise ValueError(f"{setting} {path} is a file of this machine, which the pods do not have; put it into {values.shared}")
    if unknown := values.node_selector.keys() - {"head", "student", "teacher", "trainer"}:
        raise ValueError(f"node_selector names {sorted(unknown)[0]!r}; it may name head, student, teacher and trainer")
    needed = config.teacher.api and config.teacher.api.key_variable
    if needed and needed not in values.secrets:
        raise ValueError(f"teacher.api.key_variable is {needed}, which no pod has; set secrets={{{needed}: SECRET/KEY}}")
