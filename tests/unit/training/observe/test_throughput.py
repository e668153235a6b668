"""Hardware use: work counted by formula, and a step's phases timed."""

import time

import torch

from cgd_ray.training.observe.throughput import peak_flops, peak_memory_gib
from cgd_ray.training.observe.timing import StepTimer
from cgd_ray.training.observe.work import ModelSize, model_flops


def test_work_is_that_of_the_weights_that_tokens_pass_and_of_attention_within_examples() -> None:
    size = ModelSize(
        num_parameters=1000, hidden_size=8, flops_per_token=600.0, flops_per_target=70.0, attention_width=10, num_attention_layers=2
    )
    lengths, targets = [3, 5], 4
    by_token = sum(600 + 6 * 2 * 10 * length for length in lengths for _ in range(length)) + 70 * targets
    assert model_flops(size, sum(lengths), targets, sum(length**2 for length in lengths)) == by_token


def test_a_cpu_has_a_peak_memory_and_no_known_peak_speed() -> None:
    cpu = torch.device("cpu")
    assert peak_flops(cpu) is None
    before = peak_memory_gib(cpu)
    held = torch.ones(64 * 2**20)  # 0.25 GiB
    assert peak_memory_gib(cpu) >= max(before, held.numel() * 4 / 2**30)


def test_phases_add_up_over_a_step() -> None:
    timer = StepTimer(torch.device("cpu"))
    for _ in range(2):
        with timer.phase("data"):
            time.sleep(0.01)
        with timer.phase("forward"):
            time.sleep(0.02)
    seconds = timer.seconds()
    assert seconds.keys() == {"data", "forward"}
    assert seconds["data"] >= 0.02
    assert seconds["forward"] >= 0.04
