"""ZeRO-3 prefetches parameters by the order of modules that it has recorded; a pass through others makes it forget that."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.training.job import TrainJob
from tests.distributed import run_ranks
from tests.trainings import Trainings

SETTINGS: dict[str, dict[str, Any]] = {"plain": {}, "recomputed": {"activation_checkpointing": True}}


def record_traces(jobs: list[TrainJob]) -> None:
    """Run on each rank: whether the record was whole after each micro-batch, and how many chunks of logits there were."""
    from cgd_ray.training.loop import build_rank

    for job in jobs:
        state = build_rank(job)
        coordinator = state.engine._engine.optimizer.parameter_offload.get_param_coordinator()
        seen = []
        for step in range(2):
            for rows in state.plan.micro_batches(step, state.rank):
                batch = state.rows.batch(rows)
                state.engine.backward(state.engine.forward(batch.to(state.engine.device)), state.plan.sizes(step).targets)
                state.engine.end_micro_batch(0.0)
                num_chunks = -(-batch.target_ids_N.numel() // state.training.logits_chunk_tokens)
                seen.append((coordinator.is_complete_trace(), num_chunks))
        Path(f"{job.export_to}.{state.rank}.json").write_text(json.dumps(seen))


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[Any]]]:
    """Of both ranks, one after the other, by the name of the training."""
    trainings = Trainings.make(tmp_path_factory.mktemp("traces"))
    jobs = {
        name: replace(trainings.job(name, zero_stage=3, logits_chunk_tokens=16, **chosen), export_to=str(trainings.root / name))
        for name, chosen in SETTINGS.items()
    }
    run_ranks(2, trainings.root / "meet", record_traces, list(jobs.values()))
    return {name: [json.loads(Path(f"{job.export_to}.{rank}.json").read_text()) for rank in range(2)] for name, job in jobs.items()}


@pytest.mark.parametrize("name", list(SETTINGS))
def test_no_pass_after_the_second_invalidates_the_trace_however_many_chunks_it_has(traces: dict[str, Any], name: str) -> None:
    for seen in traces[name]:
        assert len({num_chunks for _, num_chunks in seen}) > 1, "the micro-batches differ, or this would show nothing"
        assert all(is_complete for is_complete, _ in seen[1:]), seen
