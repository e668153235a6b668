"""Losses against transformers' own forward pass, the numbers that are made of them, and what is scored again and what is not."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat, Example
from cgd_ray.data.prompts import Prompts
from cgd_ray.evaluation.diagnostics.contexts import ATTEMPT, CRITIQUE, FOREIGN, PROBLEM, Sample, sample_contexts, targets_of
from cgd_ray.evaluation.diagnostics.measuring import Losses, OnProgress, Student, losses_of, score_on_ray
from cgd_ray.evaluation.diagnostics.nll import difference, nll_report, token_gains
from cgd_ray.evaluation.diagnostics.scoring import Scorer
from tests.builders import tiny_model, tiny_records, write_selected

MODEL = "examples/tinymath/models/student"
TRAINING = TrainingConfig(context_length=512, precision="fp32", logits_chunk_tokens=16)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Of which there is enough to do for one: several would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def chat() -> Chat:
    return Chat.load(MODEL)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, chat: Chat) -> Sample:
    rows = tiny_records(8)
    for row in rows[::2]:
        row |= {"verdict": "right", "critique": f"{row['reference_answer']} is right.\nConclusion: right"}
    rows[3] |= {"problem_id": "problem-2"}
    selected = write_selected(tmp_path_factory.mktemp("selected"), rows)
    return sample_contexts(TRAINING, Prompts(), chat, [selected / "selected.parquet"], max_records=8, seed=0)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(TRAINING, MODEL)


@pytest.fixture(scope="module")
def losses(sample: Sample, scorer: Scorer) -> Losses:
    return {context: scorer(examples) for context, examples in sample.examples.items()}


def by_transformers(causal_lm: torch.nn.Module, example: Example) -> np.ndarray:
    ids_1T = torch.tensor([example.input_ids])
    with torch.no_grad():
        log_probabilities_TV = causal_lm(input_ids=ids_1T).logits[0].float().log_softmax(-1)
    picked = log_probabilities_TV[:-1].gather(1, ids_1T[0, 1:, None])[:, 0]
    return np.asarray(-picked[example.prompt_length - 1 :])


def test_losses_are_those_of_a_plain_forward_pass(sample: Sample, losses: Losses) -> None:
    causal_lm = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    for context, examples in sample.examples.items():
        for example, found in zip(examples, losses[context], strict=True):
            np.testing.assert_allclose(found, by_transformers(causal_lm, example), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("context_length", "chunk_tokens"), [(512, 2048), (4096, 7)])
def test_losses_do_not_depend_on_what_is_scored_together(sample: Sample, losses: Losses, context_length: int, chunk_tokens: int) -> None:
    other = Scorer(TRAINING.model_copy(update={"context_length": context_length, "logits_chunk_tokens": chunk_tokens}), MODEL)
    for found, expected in zip(other(sample.examples[CRITIQUE]), losses[CRITIQUE], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_mean_is_the_trainings_loss(sample: Sample, scorer: Scorer, losses: Losses) -> None:
    total = sum(float(one.sum()) for one in losses[CRITIQUE])
    report = nll_report(sample, {"base": losses})["groups"]["all"]
    assert report["nll"]["base"][CRITIQUE] == pytest.approx(total / report["target_tokens"], rel=1e-6)
    assert report["target_tokens"] == sum(len(targets_of(example)) for example in sample.examples[CRITIQUE])


def test_what_a_critique_explains_is_style_and_relevance(sample: Sample, losses: Losses) -> None:
    for group in nll_report(sample, {"base": losses})["groups"].values():
        found = {name: value["mean"] for name, value in group["differences"]["base"].items()}
        nll = group["nll"]["base"]
        assert found["critique_explains"] == pytest.approx(nll[ATTEMPT] - nll[CRITIQUE])
        assert found["critique_explains"] == pytest.approx(found["style"] + found["relevance"])
        assert found["attempt_explains"] == pytest.approx(nll[PROBLEM] - nll[ATTEMPT])
        assert found["both_explain"] == pytest.approx(found["attempt_explains"] + found["critique_explains"])


def test_groups_are_the_verdicts_and_make_up_the_whole(sample: Sample, losses: Losses) -> None:
    groups = nll_report(sample, {"base": losses})["groups"]
    assert list(groups) == ["all", "right", "wrong"]
    tokens = [groups[name]["target_tokens"] for name in ("right", "wrong")]
    assert sum(tokens) == groups["all"]["target_tokens"]
    mean = np.average([groups[name]["nll"]["base"][PROBLEM] for name in ("right", "wrong")], weights=tokens)
    assert groups["all"]["nll"]["base"][PROBLEM] == pytest.approx(mean)


def test_a_student_that_was_not_changed_has_internalised_nothing(sample: Sample, losses: Losses) -> None:
    group = nll_report(sample, {"base": losses, "trained": losses})["groups"]["all"]
    assert group["internalised"] == {"mean": 0.0, "standard_error": 0.0}
    assert {value["mean"] for value in group["learned"].values()} == {0.0}


def explaining(sample: Sample, explained: float) -> Losses:
    """Losses of 1 nat without the critique, and less with it, by about so much."""
    random = np.random.default_rng(0)
    ones = [np.ones(num) for num in sample.num_targets_R]
    helped = [one - explained - 0.1 * random.random() for one in ones]
    return {PROBLEM: ones, ATTEMPT: ones, CRITIQUE: helped, FOREIGN: ones}


def test_a_student_that_needs_the_critique_no_more_has_internalised_all_of_it(sample: Sample) -> None:
    base = explaining(sample, 0.5)
    group = nll_report(sample, {"base": base, "trained": dict.fromkeys(base, base[CRITIQUE])})["groups"]["all"]
    assert group["internalised"]["mean"] == pytest.approx(group["differences"]["base"]["critique_explains"]["mean"])
    assert group["internalised_share"] == pytest.approx(1.0)


def test_there_is_no_share_of_what_cannot_be_told_from_nothing(sample: Sample) -> None:
    base = explaining(sample, -0.05)
    group = nll_report(sample, {"base": base, "trained": explaining(sample, 0.5)})["groups"]["all"]
    assert group["internalised_share"] is None


def test_gains_of_tokens_add_up_to_the_difference_of_the_sums(sample: Sample, losses: Losses, chat: Chat) -> None:
    rows = token_gains(sample, losses, chat).to_pylist()
    assert [row["record_id"] for row in rows] == sample.record_ids
    for index, row in enumerate(rows):
        explained = losses[ATTEMPT][index].sum() - losses[CRITIQUE][index].sum()
        assert sum(row["gain"]) == pytest.approx(explained, abs=1e-3)
        assert sum(row["relevance"]) == pytest.approx(losses[FOREIGN][index].sum() - losses[CRITIQUE][index].sum(), abs=1e-3)
        assert len(row["tokens"]) == len(row["gain"]) == sample.num_targets_R[index]


def test_texts_of_tokens_joined_are_the_refinement(chat: Chat, tmp_path: Path) -> None:
    rows = tiny_records(2)
    rows[0]["refinement"] = "Naïve: 2 × 3 ≠ 5 → \\boxed{6} 🙂 done."
    selected = write_selected(tmp_path, rows)
    sample = sample_contexts(TRAINING, Prompts(), chat, [selected / "selected.parquet"], max_records=2, seed=0)
    zeros = {context: [np.zeros(num) for num in sample.num_targets_R] for context in sample.examples}
    by_record = {row["record_id"]: "".join(row["tokens"]) for row in token_gains(sample, zeros, chat).to_pylist()}
    for row in rows:
        assert by_record[row["record_id"]].removesuffix(chat.tokenizer.decode([chat.end_token_id])) == row["refinement"]


def test_the_error_of_equal_records_is_the_textbooks() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 50))
    found = difference(first, second, np.full(50, 4), [str(number) for number in range(50)])
    expected = (first - second) / 4
    assert found["mean"] == pytest.approx(expected.mean())
    assert found["standard_error"] == pytest.approx(expected.std(ddof=1) / np.sqrt(50))


def test_the_error_is_that_of_drawing_problems_again() -> None:
    """Against a bootstrap over problems, with records of unequal length that belong together."""
    random = np.random.default_rng(1)
    problems = np.repeat(np.arange(200), 3)
    tokens = random.integers(5, 50, 600)
    gains = tokens * (0.3 + random.normal(size=200)[problems] + 0.5 * random.normal(size=600))
    found = difference(gains, np.zeros(600), tokens, [str(number) for number in problems])
    per_problem = np.stack([np.bincount(problems, gains), np.bincount(problems, tokens)])
    drawn = per_problem[:, random.integers(0, 200, (4000, 200))].sum(axis=2)
    assert found["standard_error"] == pytest.approx((drawn[0] / drawn[1]).std(), rel=0.06)
    assert difference(gains[:3], np.zeros(3), tokens[:3], ["one"] * 3)["standard_error"] is None


def test_a_model_is_scored_again_only_where_it_or_the_examples_differ(sample: Sample, tmp_path: Path) -> None:
    calls: list[str] = []

    def score(student: Student, examples: Sequence[Example], on_progress: OnProgress) -> list[np.ndarray]:
        calls.append(student.model)
        on_progress(len(examples))
        return [np.arange(len(targets_of(example)), dtype=np.float32) for example in examples]

    told: list[int] = []
    here, other = Student(training=TRAINING, model=MODEL), Student(training=TRAINING, model=str(tiny_model(tmp_path / "model")))
    made = losses_of(sample, here, tmp_path / "losses", told.append, score)
    read = losses_of(sample, here, tmp_path / "losses", told.append, score)
    assert calls == [MODEL]
    assert told == [32, 32]
    for context, found in read.items():
        for one, expected in zip(found, made[context], strict=True):
            np.testing.assert_array_equal(one, expected)
    losses_of(sample, other, tmp_path / "losses", told.append, score)
    losses_of(sample, here, tmp_path / "losses", told.append, score)
    assert calls == [MODEL, other.model, MODEL]
    assert pq.read_metadata(tmp_path / "losses" / "losses.parquet").num_rows == 32


@pytest.mark.slow
def test_an_actor_scores_as_this_process_does(sample: Sample, losses: Losses, ray_local: None) -> None:
    told: list[int] = []
    found = score_on_ray(Student(training=TRAINING, model=MODEL), sample.examples[CRITIQUE], told.append)
    assert told == [8]
    for one, expected in zip(found, losses[CRITIQUE], strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-5)
