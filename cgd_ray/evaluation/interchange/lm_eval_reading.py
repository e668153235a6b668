"""Results of lm-eval-harness with its samples, as `lm_eval --log_samples --output_path` leaves them (written for version 0.4.13).

A results_DATE.json has a samples_TASK_DATE.jsonl for each task beside it, with a line for each document and filter, and each line has the
metrics of that filter. What is compared is the first filter's first metric that says right or wrong; it is named as the grader.
One document has one score, however many repeats it was made from.
How to use: `for evaluation in read_lm_eval(file, read_bounded_object(file)): ...`.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from cgd_ray.evaluation.interchange.bounded import read_lines
from cgd_ray.evaluation.interchange.neutral import (
    GRADER,
    NUM_SAMPLES,
    OWN_KEY,
    PROMPT,
    SAMPLING,
    Answer,
    Evaluation,
    Problem,
    right_or_wrong,
)

SOURCE = "lm-eval"
PROMPT_SETTINGS = (
    "dataset_path",
    "dataset_name",
    "doc_to_text",
    "doc_to_choice",
    "description",
    "gen_prefix",
    "num_fewshot",
    "fewshot_split",
    "fewshot_delimiter",
    "target_delimiter",
)
"""Of a task's config, what the words come from that a model is sent."""
QUESTION_FIELDS = ("question", "problem", "prompt", "query", "input")
"""Of a document; data sets differ, also in capitals."""
EXPECTED = "write it with lm_eval --log_samples again"


def read_lm_eval(results_file: Path, results: Mapping[str, Any]) -> list[Evaluation]:
    """An evaluation for each task that has its samples, from the content of its results.

    Raises ValueError, one line, for what lm-eval does not write.
    """
    date = results_file.stem.rpartition("_")[2]
    prefix, suffix = "samples_", f"_{date}.jsonl"
    files = {
        file.name[len(prefix) : -len(suffix)]: file for file in sorted(results_file.parent.glob(f"{prefix}*")) if file.name.endswith(suffix)
    }
    if not files:
        raise ValueError(f"{results_file} has no {prefix}TASK{suffix} beside it, so no answer can be paired; {EXPECTED}")
    configs = results.get("configs")
    if not isinstance(configs, dict):
        raise ValueError(f"{results_file} has no 'configs' of its tasks; {EXPECTED}")
    return [_evaluation(results_file, results, task, configs.get(task), file) for task, file in files.items()]


def _evaluation(results_file: Path, results: Mapping[str, Any], task: str, config: object, file: Path) -> Evaluation:
    if not isinstance(config, dict):
        raise ValueError(f"{results_file} has no config of the task {task!r} whose samples are in {file.name}; {EXPECTED}")
    own = _own_settings(config)
    filter_name, metric = _first_verdict(file)
    theirs = {
        PROMPT: {
            **{name: config.get(name) for name in PROMPT_SETTINGS},
            **{name: results.get(name) for name in ("system_instruction", "fewshot_as_multiturn")},
            "chat_template": results.get("chat_template") is not None,  # which one belongs to the model
        },
        SAMPLING: config.get("generation_kwargs"),
        GRADER: {"metric": metric, "filter": filter_name, "task_version": (results.get("versions") or {}).get(task)},
        NUM_SAMPLES: 1,
    }
    return Evaluation(
        source=SOURCE,
        path=file,
        benchmark=task,
        model=str(results.get("model_name")),
        settings=theirs if own is None else own,
        words=SOURCE if own is None else OWN_KEY,
        finished=results_file.stat().st_mtime,
        problems=partial(_problems, file, filter_name, metric),
    )


def _own_settings(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Those that this project has written; None in what lm-eval wrote."""
    found: Any = config
    for name in ("metadata", OWN_KEY, "settings"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _first_verdict(file: Path) -> tuple[str, str]:
    """The filter of the first line, and its first metric that says right or wrong."""
    for number, sample in read_lines(file):
        filter_name, metrics = _field(file, number, sample, "filter", str), _field(file, number, sample, "metrics", list)
        for metric in metrics:
            with suppress(ValueError):
                if OWN_KEY not in sample:  # whose grades are there one by one
                    right_or_wrong(sample.get(metric))
                return filter_name, metric
        raise ValueError(f"{file}: none of the metrics {', '.join(map(repr, metrics))} says right or wrong; evaluate with one that does")
    raise ValueError(f"{file} has no samples; {EXPECTED}")


def _problems(file: Path, filter_name: str, metric: str) -> Iterator[Problem]:
    for number, sample in read_lines(file):
        if _field(file, number, sample, "filter", str) != filter_name:
            continue
        document = _field(file, number, sample, "doc", dict)
        own = sample.get(OWN_KEY)
        try:
            answers = _own_answers(sample, own) if isinstance(own, list) else (_answer(sample, metric),)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"{file}, line {number}: {error}; {EXPECTED}") from None
        yield Problem(
            id=str(document["problem_id"] if isinstance(own, list) else _field(file, number, sample, "doc_id", int)),
            question=_question(document),
            reference_answer=None if sample.get("target") is None else str(sample["target"]),
            answers=answers,
        )


def _answer(sample: Mapping[str, Any], metric: str) -> Answer:
    grade = right_or_wrong(sample.get(metric))
    texts, filtered = _only(sample.get("resps")), _only(sample.get("filtered_resps"))
    return Answer(
        correct=grade is True,
        graded=grade is not None,
        text=texts if isinstance(texts, str) else None,
        extracted=filtered if isinstance(filtered, str) else None,
    )


def _only(responses: object) -> object:
    """The one response; a request for each choice, and repeats that were made one score, have no one text."""
    while isinstance(responses, list) and len(responses) == 1:
        responses = responses[0]
    return responses


def _own_answers(sample: Mapping[str, Any], own: list[dict[str, Any]]) -> tuple[Answer, ...]:
    """The answers that this project has written, each with its own grade."""
    texts = sample["resps"][0]
    return tuple(Answer(text=None if answer["error"] is not None else text, **answer) for text, answer in zip(texts, own, strict=True))


def _question(document: Mapping[str, Any]) -> str:
    """The document's question; all of it where no field is known for one."""
    by_name = {name.lower(): value for name, value in document.items()}
    found = next((by_name[name] for name in QUESTION_FIELDS if isinstance(by_name.get(name), str)), None)
    return json.dumps(document, sort_keys=True, ensure_ascii=False) if found is None else found


def _field(file: Path, number: int, sample: Mapping[str, Any], name: str, kind: type) -> Any:
    value = sample.get(name)
    if not isinstance(value, kind):
        raise ValueError(f"{file}, line {number}: {name!r} is {str(value)[:40]!r}, not {kind.__name__}; {EXPECTED}")
    return value
