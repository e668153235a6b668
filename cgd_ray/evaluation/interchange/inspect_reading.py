"""Logs of Inspect, .eval (a zip with a member for each sample) or .json (written for inspect_ai 0.3.285, log version 2).

What is compared is the log's headline score, which Inspect's own lists show too; epochs are samples of one problem.
How to use: `evaluation = read_inspect_archive(path)`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from cgd_ray.evaluation.interchange.bounded import open_archive
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

SOURCE = "Inspect"
HEADER, SAMPLES = "header.json", "samples/"
SAMPLE_NAME = re.compile(r"samples/(?P<id>.*)_epoch_(?P<epoch>\d{1,9})\.json", re.DOTALL)
DECODING = (
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "stop_seqs",
    "best_of",
    "num_choices",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "verbosity",
    "effort",
    "reasoning_effort",
    "reasoning_mode",
    "reasoning_tokens",
    "response_schema",
    "extra_body",
)
"""Of Inspect's GenerateConfig, what changes which text is likely; a seed only changes which one is drawn."""
CUT = ("max_tokens", "model_length")
"""Inspect's stop reasons for an answer that reached a limit."""
EXPECTED = "expected a finished log of Inspect's, version 2"


def read_inspect_archive(path: Path) -> Evaluation:
    """The evaluation in an .eval log. Raises ValueError, one line, for what is none, or is unfinished."""
    with open_archive(path) as archive:
        if HEADER not in archive.names:
            raise ValueError(f"{path} has no {HEADER}; {EXPECTED}")
        return _evaluation(path, archive.read_object(HEADER), None)


def read_inspect_log(path: Path, log: Mapping[str, Any]) -> Evaluation:
    """The same of the content of a .json log, which had to be read in one piece."""
    samples = log.get("samples")
    if not isinstance(samples, list):
        raise ValueError(f"{path} has no samples, so no answer can be paired; write the log with its samples")
    return _evaluation(path, log, samples)


def _evaluation(path: Path, header: Mapping[str, Any], samples: list[Any] | None) -> Evaluation:
    """From the header; where `samples` are None, they are read from the archive."""
    if (status := header.get("status")) != "success":
        raise ValueError(f"{path} has status {str(status)[:40]!r}, not 'success'; {EXPECTED}")
    try:
        spec, plan = header["eval"], header.get("plan") or {}
        scorer, key = _headline(header["results"])
        own = (spec.get("metadata") or {}).get(OWN_KEY)
        sampling = {**(spec.get("model_generate_config") or {}), **(plan.get("config") or {})}
        theirs = {
            PROMPT: {
                "system_message": sampling.get("system_message"),
                **{
                    str(place): {"solver": step["solver"], **step.get("params", {})}
                    for place, step in enumerate(plan.get("steps") or [], 1)
                },
            },
            SAMPLING: {name: sampling[name] for name in DECODING if sampling.get(name) is not None},
            GRADER: {"scorer": scorer, "score": key, "options": _options(spec, scorer)},
            NUM_SAMPLES: (spec.get("config") or {}).get("epochs") or 1,
        }
        return Evaluation(
            source=SOURCE,
            path=path,
            benchmark=str(spec["task"]),
            model=str(spec["model"]),
            settings=theirs if own is None else own["settings"],
            words=SOURCE if own is None else OWN_KEY,
            finished=datetime.fromisoformat(str(spec["created"])).timestamp(),
            problems=partial(_problems, path, samples, scorer, key),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is not as Inspect writes it ({type(error).__name__}: {error}); {EXPECTED}") from None


def _headline(results: Mapping[str, Any]) -> tuple[str, str]:
    """The scorer, and the name of its score where it gives several at once."""
    headline = results.get("headline") or {}
    scores = results["scores"]
    if not scores:
        raise ValueError("it has no scores")
    wanted = {"scorer": headline.get("scorer"), "name": headline.get("score")}
    chosen = next((score for score in scores if all(value in (None, score.get(name)) for name, value in wanted.items())), scores[0])
    return str(chosen["scorer"]), str(chosen["name"])


def _options(spec: Mapping[str, Any], scorer: str) -> Mapping[str, Any]:
    return next((found.get("options") or {} for found in spec.get("scorers") or [] if found["name"] == scorer), {})


def _problems(path: Path, samples: list[Any] | None, scorer: str, key: str) -> Iterator[Problem]:
    for group in _in_archive(path) if samples is None else _in_list(samples):
        first = group[0]
        try:
            own_id = (first.get("metadata") or {}).get("problem_id")
            yield Problem(
                id=str(first["id"] if own_id is None else own_id),
                question=_question(first),
                reference_answer=_reference(first["target"]),
                answers=tuple(_answer(sample, scorer, key) for sample in group),
            )
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            name = str(first.get("id") if isinstance(first, dict) else first)[:80]
            raise ValueError(f"{path}: sample {name!r} is not as compared ({type(error).__name__}: {error}); {EXPECTED}") from None


def _in_archive(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The epochs of each sample, read one sample at a time; an archive has them in the order in which they ended."""
    with open_archive(path) as archive:
        found = [match for name in archive.names if (match := SAMPLE_NAME.fullmatch(name))]
        found.sort(key=lambda match: (match["id"], int(match["epoch"])))
        for _, members in groupby(found, key=lambda match: match["id"]):
            yield [archive.read_object(member.string) for member in members]


def _in_list(samples: list[Any]) -> Iterator[list[dict[str, Any]]]:
    """The same of a log that was read in one piece."""
    ordered = sorted(
        (sample for sample in samples if isinstance(sample, dict)),
        key=lambda found: (str(found.get("id")), str(found.get("epoch")).zfill(9)),
    )
    for _, group in groupby(ordered, key=lambda found: str(found.get("id"))):
        yield list(group)


def _answer(sample: Mapping[str, Any], scorer: str, key: str) -> Answer:
    score = (sample.get("scores") or {}).get(scorer) or {}
    value = score.get("value")
    grade = right_or_wrong(value.get(key) if isinstance(value, dict) else value)
    output = sample.get("output") or {}
    choices, error = output.get("choices") or [], sample.get("error")
    stopped = choices[0].get("stop_reason") if choices else None
    return Answer(
        correct=grade is True,
        graded=grade is not None and (score.get("metadata") or {}).get("graded") is not False,  # as this project writes it
        text=output.get("completion") or (_text(choices[0]["message"]["content"]) if choices else None),
        extracted=score.get("answer"),
        reason=score.get("explanation"),
        finish_reason="length" if stopped in CUT else "stop" if stopped == "stop" else None,
        num_tokens=(output.get("usage") or {}).get("output_tokens"),
        error=None if error is None else str(error["message"]),
    )


def _question(sample: Mapping[str, Any]) -> str:
    """What the data set asks, before any solver put words around it, with the choices."""
    asked = sample["input"]
    if not isinstance(asked, str):
        asked = "\n\n".join(_text(message["content"]) for message in asked)
    return "\n".join([asked, *(str(choice) for choice in sample.get("choices") or [])])


def _reference(target: object) -> str:
    if isinstance(target, list):
        return str(target[0]) if len(target) == 1 else json.dumps(target, ensure_ascii=False)
    return str(target)


def _text(content: object) -> str:
    """A message's text; its content is a text, or parts of which some are."""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    return "\n".join(str(part["text"]) for part in parts if part.get("type") == "text")
