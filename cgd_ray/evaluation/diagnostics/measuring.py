"""Scores a sample by a model in a Ray actor, and keeps the losses in a file that is named by what it was made of.

So diagnosing again scores what has changed and nothing else: the trained student, where the untrained one was scored before there was any
other. One model is in memory at a time; the actor's process, and what it holds of a GPU, ends with it.
How to use, with Ray initialised: `losses = losses_of(sample, Student.of(config), directory, on_progress)`.
"""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cgd_ray.config import Config, TrainingConfig
from cgd_ray.data.chat import Example
from cgd_ray.data.records import short_hash
from cgd_ray.data.rundir import atomic_write, read_manifest, write_manifest
from cgd_ray.engines.adapters import adapter_identity
from cgd_ray.evaluation.diagnostics.contexts import Sample
from cgd_ray.generation.fingerprints import model_identity
from cgd_ray.training.job import PASSED_ON
from cgd_ray.training.placing import cpus_of_worker

LOSSES_SCHEMA = pa.schema([("record_id", pa.string()), ("context", pa.string()), ("losses", pa.list_(pa.float32()))])
"""A row for each record and context: the negative log likelihood in nats of each token of the refinement."""
LOSSES = "losses.parquet"
EXAMPLES_AT_ONCE = 64
"""In one call of the actor, after which progress is told."""
CALLS_AHEAD = 2
MOST_RETRIES = 2
"""Of a call whose actor is lost, as with a node that was taken away."""

Losses = Mapping[str, Sequence[np.ndarray]]
"""By context, for each record of a sample [targets] in fp32."""
OnProgress = Callable[[int], None]
"""Told how many examples were scored since the last call."""


@dataclass(frozen=True, kw_only=True)
class Student:
    """A model to be scored. Crosses processes."""

    training: TrainingConfig
    """In whose precision, on whose kind of device and with whose row length."""
    model: str
    adapter: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables for the actor's process."""

    @classmethod
    def of(cls, config: Config, trained: Path | None = None) -> "Student":
        """A run's student, as it was or, in the directory `trained`, as it has become, which has the adapter in its weights.

        Raises ValueError where the precision is not settled yet.
        """
        if config.training.precision == "auto":
            raise ValueError(
                "training.precision is auto, which a run settles when it begins; diagnose a run that has begun, or set bf16 or fp32"
            )
        return cls(
            training=config.training,
            model=config.student.model if trained is None else str(trained),
            adapter=config.student.adapter if trained is None else None,
            environment={name: os.environ[name] for name in PASSED_ON if name in os.environ},
        )

    def fingerprint(self, sample: Sample) -> str:
        """Names the model and the examples."""
        adapter = None if self.adapter is None else adapter_identity(self.adapter)
        return short_hash(json.dumps([model_identity(self.model), adapter, self.training.precision, sample.digest()]))


Score = Callable[[Student, Sequence[Example], OnProgress], list[np.ndarray]]
"""Loads a student and gives, for each example, the loss of each of its target tokens."""


def losses_of(sample: Sample, student: Student, directory: Path, on_progress: OnProgress, score: Score | None = None) -> Losses:
    """The losses of a sample's examples, from the directory where they are there already; `score` is Ray's actor unless given."""
    fingerprint = student.fingerprint(sample)
    manifest = read_manifest(directory)
    if manifest is not None and manifest["fingerprint"] == fingerprint:
        on_progress(len(sample.record_ids) * len(sample.examples))
        return _read(sample, directory)
    started = time.monotonic()
    flat = [example for examples in sample.examples.values() for example in examples]
    scored = iter((score or score_on_ray)(student, flat, on_progress))
    losses = {context: [next(scored) for _ in examples] for context, examples in sample.examples.items()}
    _write(sample, losses, directory, fingerprint, time.monotonic() - started)
    return losses


def score_on_ray(student: Student, examples: Sequence[Example], on_progress: OnProgress) -> list[np.ndarray]:
    """In an actor with a GPU where the run trains on GPUs, with the CPUs of a training worker in any case. Raises RayError."""
    import ray

    cpus = cpus_of_worker(student.training, [node["Resources"] for node in ray.nodes() if node["Alive"]])
    actor = (
        ray.remote(_Scoring)
        .options(num_cpus=cpus, num_gpus=int(student.training.use_gpu), max_restarts=MOST_RETRIES, max_task_retries=MOST_RETRIES)
        .remote(student)
    )
    losses, asked = list[np.ndarray](), deque[object]()
    for portion in _portions(examples):
        asked.append(actor.losses.remote(portion))
        if len(asked) > CALLS_AHEAD:
            _take(ray.get(asked.popleft()), losses, on_progress)
    for answer in asked:
        _take(ray.get(answer), losses, on_progress)
    return losses


class _Scoring:
    """The actor; it imports what reads the environment once it is set."""

    def __init__(self, student: Student) -> None:
        os.environ.update(student.environment)
        from cgd_ray.evaluation.diagnostics.scoring import Scorer

        self._scorer = Scorer(student.training, student.model, student.adapter)

    def losses(self, examples: Sequence[Example]) -> list[np.ndarray]:
        return self._scorer(examples)


def _portions(examples: Sequence[Example]) -> Iterator[Sequence[Example]]:
    for start in range(0, len(examples), EXAMPLES_AT_ONCE):
        yield examples[start : start + EXAMPLES_AT_ONCE]


def _take(found: list[np.ndarray], losses: list[np.ndarray], on_progress: OnProgress) -> None:
    losses += found
    on_progress(len(found))


def _write(sample: Sample, losses: Losses, directory: Path, fingerprint: str, seconds: float) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "manifest.json").unlink(missing_ok=True)  # or a kill between the two files would leave one that is not this one's
    rows = [
        {"record_id": name, "context": context, "losses": one}
        for context, found in losses.items()
        for name, one in zip(sample.record_ids, found, strict=True)
    ]
    with atomic_write(directory / LOSSES) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=LOSSES_SCHEMA), temporary)
    write_manifest(directory, fingerprint, [directory / LOSSES], {"seconds": seconds})


def _read(sample: Sample, directory: Path) -> Losses:
    table = pq.read_table(directory / LOSSES)
    found = iter(table["losses"])
    return {context: [np.asarray(next(found).values, np.float32) for _ in examples] for context, examples in sample.examples.items()}
