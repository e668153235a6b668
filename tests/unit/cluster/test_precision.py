"""auto becomes one precision for the whole run: bf16 only where every device that may run the model computes it natively."""

from pathlib import Path
from typing import Any

import pytest

from cgd_ray.cluster.connection import Node, Resources
from cgd_ray.cluster.precision import as_begun, chosen, computes_bf16, settle, this_cpu_computes_bf16
from cgd_ray.config import Config
from cgd_ray.data.rundir import RunDir
from cgd_ray.generation.fingerprints import turn_fingerprints
from tests.builders import tiny_model

AVX512, AVX2 = frozenset({"avx2", "avx512bw"}), frozenset({"avx", "avx2", "fma"})
ON_GPU = {"placement": {"gpus_per_replica": 1}}


def make_config(run_dir: Path | str = "run", student: dict[str, Any] | None = None, **training: Any) -> Config:
    roles = {"student": {"model": "student", **(student or {})}, "teacher": {"model": "teacher", **ON_GPU}}
    return Config.model_validate({"run_dir": str(run_dir), "problems": {"path": "problems.jsonl"}, **roles, "training": training})


def gpus(*kinds: str) -> Resources:
    return Resources(nodes=[Node(resources={"GPU": 8, f"accelerator_type:{kind}": 1}) for kind in kinds])


@pytest.mark.parametrize(
    ("flags", "environment", "computes"),
    [
        (AVX512, {}, True),
        (AVX2, {}, False),
        (AVX512, {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}, False),
        (frozenset({"asimd", "bf16"}), {}, True),
    ],
)
def test_a_cpu_computes_bf16_with_avx512_unless_it_is_told_not_to_use_it(
    flags: frozenset[str], environment: dict[str, str], computes: bool
) -> None:
    assert computes_bf16(flags, environment) is computes


def test_torch_says_the_same_of_this_cpu() -> None:
    import torch

    assert this_cpu_computes_bf16() == torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.mark.parametrize(("kinds", "dtype", "precision"), [(["H100"], "bfloat16", "bf16"), (["H100", "T4"], "float32", "fp32")])
def test_one_node_without_bf16_makes_all_compute_in_fp32(kinds: list[str], dtype: str, precision: str) -> None:
    config = settle(make_config(student=ON_GPU, use_gpu=True), gpus(*kinds))
    assert chosen(config) == {"student": dtype, "teacher": dtype, "training": precision}


def test_a_role_that_asks_for_its_accelerator_is_not_held_back_by_others() -> None:
    picky = {"placement": {"gpus_per_replica": 1, "accelerator_type": "H100"}}
    assert chosen(settle(make_config(student=picky, use_gpu=True), gpus("H100", "T4")))["student"] == "bfloat16"


def test_what_is_given_is_kept() -> None:
    given = make_config(student={**ON_GPU, "engine": {"dtype": "float16"}}, use_gpu=True, precision="bf16")
    assert chosen(settle(given, gpus("T4"))) == {"student": "float16", "teacher": "float32", "training": "bf16"}


def test_cpus_are_asked_on_every_node(ray_local: None) -> None:
    dtype, precision = ("bfloat16", "bf16") if this_cpu_computes_bf16() else ("float32", "fp32")
    settled = chosen(settle(make_config(), gpus("H100")))
    assert settled == {"student": dtype, "teacher": "bfloat16", "training": precision}


def test_a_run_goes_on_as_it_was_begun_wherever_that_is(tmp_path: Path) -> None:
    run, auto = RunDir(tmp_path), make_config(tmp_path, student=ON_GPU, use_gpu=True)
    begun = settle(auto, gpus("T4"))
    run.check(begun)
    run.claim(begun)
    recorded = run.recorded_config()
    assert recorded is not None
    again = as_begun(auto, recorded)
    assert chosen(again) == chosen(begun)
    run.check(again)


def test_computing_in_the_precision_of_the_file_is_what_older_records_were_made_with(tmp_path: Path) -> None:
    model = str(tiny_model(tmp_path / "model"))  # in bfloat16

    def fingerprint(**engine: str) -> str:
        return turn_fingerprints(make_config(student={"model": model, "engine": engine}))["attempt"]

    assert fingerprint() == fingerprint(dtype="bfloat16") != fingerprint(dtype="float32")
