"""From selected records to an exported student."""

import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from cgd_ray.config.base import Added, Count, Fraction, Settings
from cgd_ray.config.deepspeed import check_passed_on
from cgd_ray.config.validation import ValidationConfig

SHARES_TOLERANCE = 1e-6  # a third is written 0.333333
ArmName = Literal["cgd", "refined_only", "sft", "distilled_sft", "cft", "cgd_without_attempt", "cgd_without_critique"]
CritiquesName = Literal["specific", "shuffled", "generic", "verdict_only", "none"]
VerdictName = Literal["right", "wrong"]


def _check_workers(value: Any) -> Any:
    sizes = value if isinstance(value, list | tuple) else (value,)
    if len(sizes) not in (1, 2) or any(type(size) is not int or size < 1 for size in sizes) or sizes[0] > sizes[-1]:
        raise ValueError(f"{value!r} is neither a number of workers nor [fewest, most]; give for instance 4 or [2, 8]")
    return value


def _check_arm(value: Any) -> Any:
    if not isinstance(value, str | Mapping):
        raise ValueError(f"{value!r} is neither an arm nor shares of arms; give for instance cgd or {{cgd: 0.8, refined_only: 0.2}}")
    _check_shares({value: 1.0} if isinstance(value, str) else value, "arm", typing.get_args(ArmName))
    return value


def _check_verdict_mix(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} is no mapping of verdicts to shares; give for instance {{right: 0.5, wrong: 0.5}}")
    _check_shares(value, "verdict", typing.get_args(VerdictName))
    return value


def _check_shares(shares: Mapping[Any, Any], noun: str, valid: Sequence[str]) -> None:
    for name, share in shares.items():
        if name not in valid:
            raise ValueError(f"{name!r} is no {noun}; valid here: {', '.join(valid)}")
        if type(share) not in (int, float) or not 0 <= share <= 1:
            raise ValueError(f"the share of {name} is {share!r}; give a number from 0 to 1")
    if abs((total := sum(shares.values())) - 1) > SHARES_TOLERANCE:
        raise ValueError(f"the shares {dict(shares)} add up to {total:g}, not to 1; change one of them")


Arm = Annotated[ArmName | Mapping[ArmName, float], BeforeValidator(_check_arm)]
VerdictMix = Annotated[Mapping[VerdictName, float], BeforeValidator(_check_verdict_mix)]
Workers = Annotated[int | tuple[int, int], BeforeValidator(_check_workers)]
PassedOn = Annotated[Mapping[str, Any], AfterValidator(check_passed_on)]


STREAMABLE: Mapping[str, tuple[Sequence[Any], str]] = {
    "num_epochs": ((1,), "a stream passes once"),
    "critiques": (("specific", "generic", "verdict_only", "none"), "a critique is swapped for one of all the others"),
    "verdict_mix": ((None,), "the shares are those of all records"),
    "max_examples": ((None,), "a budget takes the same records whichever are finished first"),
    "max_target_tokens": ((None,), "a budget takes the same records whichever are finished first"),
    "steps_per_epoch": ((None,), "how many rows there will be is not known"),
    "validation": ((None,), "losses can be compared only once all held-out records are there"),
}
"""Of the settings that most often need all records at once: which values training.streaming allows, and why no others."""


class LoraConfig(Settings):
    """Low-rank adapters in place of full fine-tuning; they are merged into the weights on export."""

    rank: Count = 16
    """Inner size of each adapter."""
    alpha: Annotated[float, Field(gt=0.0)] = 32.0
    """An adapter's output is scaled by alpha / rank."""
    dropout: Fraction = 0.0
    """Share of an adapter's inputs that is dropped while training."""
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get adapters, e.g. [q_proj, v_proj]; all-linear takes all but the output layer."""


class TrainingConfig(Settings):
    """From selected records to an exported student."""

    arm: Arm = "cgd"
    """What the student sees and what it learns to produce; docs/method.md has the table. A mapping such as {cgd: 0.8, refined_only: 0.2}
    gives each record one arm, drawn with these shares."""
    critiques: CritiquesName = "specific"
    """Which critique the arm cgd sees: its own, another problem's of the same verdict and about the same length, advice without content
    (template generic_critique), the line alone with which it concludes (verdict_only), or none."""
    verdict_mix: VerdictMix | None = None
    """Shares of right and wrong verdicts among the examples, e.g. {right: 0.5, wrong: 0.5}: as many records as keep them, to within one.
    Records without a verdict are left out. Null takes the records as they are. Give max_examples to compare mixes of one size."""
    usable_by: Annotated[tuple[ArmName, ...], Added()] = ()
    """Arms for which a record must make an example too, or else it is left out here as well: with the same list, trainings that are
    compared take the same records, though some arm lacks a column or room in the context for some of them."""
    max_examples: Count | None = None
    """Train on at most so many examples; null on all. The order in which records are taken depends on seed alone, so all arms see the
    same problems."""
    max_target_tokens: Count | None = None
    """Train on at most so many tokens with loss, counted once for all epochs; the order is that of max_examples. Null on all."""
    context_length: Count = 4096
    """Tokens in one packed row; an example longer than this loses the end of its attempt or, where that is not enough, is dropped and
    counted."""
    num_epochs: Count = 1
    """Passes over the examples."""
    streaming: bool = False
    """Train on the records while the others are still being generated, on accelerators beside the engines': one epoch in the order in
    which they are finished. `cgd run` only; what has to see all records first is refused."""
    global_batch_size: Count = 64
    """Packed rows per optimizer step over all workers, whose number need not divide it: shares differ by what is left over."""
    steps_per_epoch: Annotated[Count | None, Added()] = None
    """Optimizer steps of an epoch, over which its packed rows are spread evenly, whatever global_batch_size says: trainings on the same
    records whose examples differ in length take the same steps. Null takes global_batch_size rows a step."""
    micro_batch_size: Count = 1
    """Packed rows per worker in one forward pass, at most."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-6
    """Peak rate."""
    warmup_fraction: Fraction = 0.03
    """Share of the steps, when streaming of the records, in which the rate rises linearly to its peak; a cosine follows."""
    final_learning_rate_fraction: Fraction = 0.1
    """Rate at the last step as a share of the peak."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """AdamW's decoupled decay."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's moments."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    """Gradients are clipped to this norm."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """bf16 keeps fp32 master weights in the optimizer; auto is bf16 where the workers' devices compute it natively, else fp32, settled
    once when the run begins."""
    zero_stage: Annotated[int, Field(ge=0, le=3)] = 2
    """DeepSpeed ZeRO: 1 shards optimizer state, 2 also gradients, 3 also parameters."""
    num_workers: Workers = 1
    """Ray Train workers, one process each; [fewest, most] takes what the cluster has, and follows it: the training goes on from its
    newest checkpoint with more or fewer workers."""
    cpus_per_worker: Annotated[float, Field(ge=0.0)] | None = None
    """Ray CPUs reserved by one worker, and its threads. Null is 1, but with use_gpu and offload, where CPUs do the optimizer's work, the
    node's CPUs per GPU less one for what else runs there."""
    use_gpu: bool = False
    """One GPU per worker."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more compute."""
    logits_chunk_tokens: Count = 2048
    """Target positions whose logits exist at once; bounds peak memory at this times the vocabulary."""
    router_aux_loss: Annotated[float | None, Field(ge=0.0), Added()] = None
    """Weight of the loss that keeps a mixture of experts' routers balanced. Null takes what the model's config.json asks for:
    router_aux_loss_coef where output_router_logits is true, else none. 0 turns it off."""
    checkpoint_every_steps: Count | None = None
    """Steps between checkpoints, which are written while the training goes on; null saves at the end of the training only."""
    keep_checkpoints: Count = 2
    """Newest checkpoints that are kept, more than one in case the newest turns out damaged; besides, the best by held-out loss
    and by held-out pass@1 are, and those whose pass@1 is still awaited."""
    validation: ValidationConfig | None = None
    """Held-out loss while training; null trains on everything."""
    export: Literal["last", "best"] = "last"
    """Which weights become the trained student: the last step's, or those of the checkpoint that is the best by
    training.validation.choose_by."""
    lora: LoraConfig | None = None
    """Train low-rank adapters only; null trains all weights. Needs the extra `lora`."""
    offload: Literal["none", "optimizer", "parameters"] = "none"
    """Keep the optimizer's state in host memory (ZeRO 1 to 3), with `parameters` the weights too (ZeRO 3): slower, for large models."""
    deepspeed: Annotated[PassedOn, Added()] = Field(default_factory=dict)
    """Further DeepSpeed settings, passed through, e.g. {zero_optimization: {overlap_comm: false}}. Those that other settings decide are
    refused."""
    deterministic: Annotated[bool, Added()] = False
    """Only kernels that repeat every bit on the same hardware, slower on GPUs; an operation that has none ends the training. On CPUs all
    do anyway."""
    collective_timeout_s: Annotated[Count, Added()] = 1800
    """Seconds after which ranks that wait for each other give up and the group is started again. What one rank does alone (choosing a
    checkpoint, loading, exporting) does not count."""
    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ("tensorboard",)
    """Where metrics go besides metrics.jsonl; mlflow and wandb need the extra `trackers`."""
    max_failures: Annotated[int, Field(ge=0)] = 2
    """Worker-group failures after which Ray Train gives up; each resumes from the newest checkpoint. A node that was taken away after a
    notice is none."""
    seed: int = 0
    """Order of the packed rows; which records are taken within a budget, which arm they get, whose critique when shuffled."""

    @property
    def arm_shares(self) -> dict[ArmName, float]:
        """Share of the records that each arm gets; they add up to 1."""
        shares: Mapping[ArmName, float] = {self.arm: 1.0} if isinstance(self.arm, str) else self.arm
        return {name: share for name, share in shares.items() if share > 0}

    @property
    def arm_label(self) -> str:
        """Arm and kind of critiques in a few words, e.g. "cgd" or "0.8 cgd + 0.2 refined_only (shuffled critiques)"."""
        arms = self.arm if isinstance(self.arm, str) else " + ".join(f"{share:g} {name}" for name, share in self.arm.items())
        return arms if self.critiques == "specific" else f"{arms} ({self.critiques} critiques)"

    @model_validator(mode="after")
    def _critiques_have_an_arm(self) -> "TrainingConfig":
        if self.critiques != "specific" and "cgd" not in self.arm_shares:
            raise ValueError(
                f"critiques is {self.critiques}, which changes what the arm cgd sees, but arm is {self.arm}; "
                "set critiques to specific or arm to cgd"
            )
        return self

    @property
    def worker_range(self) -> tuple[int, int]:
        """Fewest and most workers; the same number twice when it is fixed."""
        return (self.num_workers, self.num_workers) if isinstance(self.num_workers, int) else self.num_workers

    def steps_in_epoch(self, num_rows: int) -> int:
        """Optimizer steps of an epoch of so many packed rows."""
        return self.steps_per_epoch or -(-num_rows // self.global_batch_size)

    def spread_over(self, num_rows: int) -> "TrainingConfig":
        """The same with the global_batch_size that `steps_per_epoch` comes to with so many packed rows.

        Raises ValueError where there are fewer rows than steps.
        """
        if self.steps_per_epoch is None:
            return self
        if self.steps_per_epoch > num_rows:
            raise ValueError(
                f"steps_per_epoch is {self.steps_per_epoch} and there are {num_rows} packed rows, so some steps would be empty; lower "
                "steps_per_epoch, or lower context_length, which makes more rows"
            )
        return self.model_copy(update={"global_batch_size": -(-num_rows // self.steps_per_epoch)})

    def micro_batches_per_step(self, world_size: int) -> int:
        """Forward passes of each of so many workers in one optimizer step."""
        return -(-self.global_batch_size // (self.micro_batch_size * world_size))

    @model_validator(mode="after")
    def _a_stream_is_never_seen_whole(self) -> "TrainingConfig":
        for name, (allowed, why) in STREAMABLE.items():
            value = getattr(self, name)
            if self.streaming and value not in allowed:
                shown = value.model_dump(mode="json") if isinstance(value, Settings) else value
                remedy = "null" if allowed[0] is None else allowed[0]
                raise ValueError(f"streaming is true and {name} is {shown}, but {why}; set {name} to {remedy}, or streaming to false")
        return self

    @model_validator(mode="after")
    def _offload_fits_the_stage(self) -> "TrainingConfig":
        least = {"none": 0, "optimizer": 1, "parameters": 3}[self.offload]
        if self.zero_stage < least:
            raise ValueError(f"offload {self.offload} needs zero_stage {least} or more, zero_stage is {self.zero_stage}; raise it")
        return self

    @model_validator(mode="after")
    def _best_is_known(self) -> "TrainingConfig":
        if self.export == "best" and (self.validation is None or self.checkpoint_every_steps is None):
            lacking = "validation" if self.validation is None else "checkpoint_every_steps"
            raise ValueError(f"export is best but {lacking} is null, so there is nothing to choose by or from; set it, or export last")
        return self

    @model_validator(mode="after")
    def _answered_steps_are_saved(self) -> "TrainingConfig":
        answers, saved = None if self.validation is None else self.validation.answers, self.checkpoint_every_steps
        if answers is not None and (saved is None or answers.every_steps % saved):
            remedy = "set checkpoint_every_steps" if saved is None else f"{-(-answers.every_steps // saved) * saved} would do"
            raise ValueError(
                f"validation.answers.every_steps {answers.every_steps} is no multiple of checkpoint_every_steps {saved}, and only "
                f"checkpoints can answer; {remedy}"
            )
        return self
