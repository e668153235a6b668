"""A RayJob of KubeRay's with all that it needs but storage and image, from a run's config and few values.

The worker groups follow from the config: each role's engines, and the training's workers, get nodes that fit them, from none to as many as
the config may use. How to use: `cgd cluster render CONFIG --kind kuberay --set image=REGISTRY/IMAGE --set storage=CLAIM`.
"""

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Annotated

from pydantic import Field, model_validator

from cgd_ray.cluster.rendering.demands import Part, check_paths, nodes, parts
from cgd_ray.cluster.rendering.templates import filled_in
from cgd_ray.config import Config, parse_settings, to_yaml
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
    monitoring_namespace: Name | None = None
    """Where a Prometheus runs that may scrape the pods; null keeps it out."""
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
    gpus: int
    cpus: int
    memory_gib: int
    max_pods: int = 1
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
    head = _group("head", 0, values)
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
    groups = []
    for part in parts(config):
        gpus = _gpus(config, part, values)
        node = _group(part, gpus, values)
        groups.append(replace(node, max_pods=nodes(config, part, gpus=gpus, cpus=node.cpus)))
    return groups


def _gpus(config: Config, part: Part, values: KubeRayValues) -> int:
    """Of one node: an engine's, or as many workers' as a node may have."""
    if part == "trainer":
        return min(values.gpus_per_node, config.training.worker_range[1]) if config.training.use_gpu else 0
    role = config.student if part == "student" else config.teacher
    return math.ceil(role.placement.gpus_per_replica)


def _group(name: str, gpus: int, values: KubeRayValues) -> Group:
    return Group(
        name=name,
        gpus=gpus,
        cpus=gpus * values.cpus_per_gpu if gpus else values.head_cpus,
        memory_gib=gpus * values.memory_per_gpu_gib if gpus else values.head_memory_gib,
        selector=values.node_selector.get(name, {}),
    )


def _check(config: Config, values: KubeRayValues) -> None:
    check_paths(config, values.shared)
    if unknown := values.node_selector.keys() - {"head", "student", "teacher", "trainer"}:
        raise ValueError(f"node_selector names {sorted(unknown)[0]!r}; it may name head, student, teacher and trainer")
    needed = config.teacher.api and config.teacher.api.key_variable
    if needed and needed not in values.secrets:
        raise ValueError(f"teacher.api.key_variable is {needed}, which no pod has; set secrets={{{needed}: SECRET/KEY}}")
