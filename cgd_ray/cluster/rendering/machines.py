"""Clusters of rented machines: what `ray up` starts on AWS or GCP, and a task of SkyPilot's, from a run's config and few values.

How to use: `cgd cluster render CONFIG --kind ray-up-aws --set image=... > cluster.yaml`; `ray up cluster.yaml`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, model_validator

from cgd_ray.cluster.rendering.demands import Part, check_is_directory, check_paths, nodes, parts
from cgd_ray.cluster.rendering.templates import filled_in
from cgd_ray.config import Config, parse_settings, to_yaml
from cgd_ray.config.base import Count, Settings

Name = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]
Export = Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+:/[A-Za-z0-9._/-]*$")]
Path = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]+$")]


class SharedValues(Settings):
    """What all kinds of rented machines ask for."""

    nfs: Export
    """SERVER:/PATH of the storage that all nodes mount: EFS, Filestore or any other NFS 4.1."""
    shared: Path = "/shared"
    """Where they mount it; run_dir and the hub's cache are in it."""
    name: Name = "cgd"
    """Of the cluster."""
    variables: Path | None = None
    """File on the nodes with environment variables as NAME=VALUE, such as HF_TOKEN, for those that may read it; never written here."""
    disk_gib: Count = 200
    """Of each node's own disk."""


class Machine(Settings):
    """One kind of node."""

    type: Word
    """As the cloud calls it."""
    cpus: Count
    """Of one node."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """Of one node."""
    spot: bool = False
    """Cheaper, and may be taken away: it costs engines what is in flight, a training what came after its newest checkpoint."""


class RayUpValues(SharedValues):
    """What the config does not say, for `ray up`."""

    image: Word | None = None
    """Container image with this package, pinned by tag or digest; or `environment`."""
    environment: Path | None = None
    """Virtual environment with this package on the shared storage; or `image`."""
    head: Machine
    """The head, which also selects, tokenises and packs."""
    student: Machine | None = None
    """Nodes of the student's engines."""
    teacher: Machine | None = None
    """Nodes of the teacher's engines."""
    trainer: Machine | None = None
    """Nodes of the training's workers."""
    ssh_user: Word = "ubuntu"
    """Of the machines' image."""
    idle_minutes: Count = 10
    """After which a node without work is given back."""

    @model_validator(mode="after")
    def _runs_somewhere(self) -> "RayUpValues":
        if (self.image is None) == (self.environment is None):
            raise ValueError(
                "image and environment are both given or both missing; set one of them, where the nodes have this package from"
            )
        return self


class AwsValues(RayUpValues):
    """For `ray up` on AWS."""

    region: Word
    """Where."""
    subnet: Word
    """Subnet of all nodes."""
    security_group: Word
    """Which lets in the members of itself and, from your own address, SSH. Ray's own one would let in SSH from everywhere."""
    instance_profile: Word | None = None
    """ARN of what the head may do; null has Ray make one that may do all on EC2 and S3."""
    ami: Word | None = None
    """Machine image with Docker and NVIDIA's driver; null takes Ray's choice."""


class GcpValues(RayUpValues):
    """For `ray up` on GCP."""

    project: Word
    """Its id."""
    zone: Annotated[str, Field(pattern=r"^[a-z]+-[a-z]+[0-9]+-[a-z]$")]
    """Where."""
    subnetwork: Word
    """Of all nodes, whose firewall lets in the members of itself and, from your own address, SSH."""
    source_image: Word
    """Machine image with Docker and NVIDIA's driver."""
    accelerators: Mapping[str, str] = Field(default_factory=dict)
    """GPUs that are added to a machine, by part, e.g. {teacher: nvidia-l4}; machine types that have them need none."""


class SkyValues(SharedValues):
    """What the config does not say, for a task of SkyPilot's."""

    environment: Path
    """Virtual environment with this package on the shared storage."""
    cloud: Word
    """Where, as SkyPilot's `infra` has it, e.g. aws/us-west-2 or k8s."""
    accelerators: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+:[0-9]+$")] | None = None
    """Of a node, e.g. H100:8; null takes nodes without any."""
    cpus: Count
    """Of a node, at least."""
    nodes: Count
    """So many are held from the start to the end: a task does not grow or shrink."""
    spot: bool = False
    """For `sky jobs launch`, which starts a task again that has lost its nodes; it goes on in the same run directory."""


def render_ray_up_aws(config: Config, overrides: Sequence[str]) -> str:
    """A cluster's config for `ray up`. Raises ValueError, one line, for values that are missing or do not fit the config."""
    return _ray_up(config, parse_settings(AwsValues, overrides), "aws")


def render_ray_up_gcp(config: Config, overrides: Sequence[str]) -> str:
    """The same on GCP."""
    return _ray_up(config, parse_settings(GcpValues, overrides), "gcp")


def _ray_up(config: Config, values: RayUpValues, cloud: str) -> str:
    check_paths(config, values.shared)
    counts = {part: nodes(config, part, machine.gpus, machine.cpus) for part, machine in _machines(config, values).items()}
    return filled_in("ray_up.yaml.j2", cloud=cloud, values=values, counts=counts)


def _machines(config: Config, values: RayUpValues) -> dict[Part, Machine]:
    machines: dict[Part, Machine] = {}
    for part in parts(config):
        machine: Machine | None = getattr(values, part)
        if machine is None:
            raise ValueError(f"{part} has no machine; set {part}={{type: TYPE, cpus: N, gpus: N}}")
        machines[part] = machine
    return machines


def render_skypilot(config: Config, overrides: Sequence[str]) -> str:
    """A task's YAML. Raises ValueError, one line, for values that are missing or do not fit the config."""
    values = parse_settings(SkyValues, overrides)
    check_is_directory(config)
    check_paths(config, values.shared)
    gpus = int(values.accelerators.rpartition(":")[2]) if values.accelerators else 0
    for part in parts(config):
        nodes(config, part, gpus, values.cpus)
    return filled_in("skypilot.yaml.j2", values=values, run_dir=config.run_dir, config=to_yaml(config).rstrip())
