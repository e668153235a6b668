"""The example files hold what an iteration over the examples yields, whatever is wanted, in how many files and by how many processes."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cgd_ray.config import TrainingConfig
from cgd_ray.data.chat import Chat
from cgd_ray.data.prompts import Prompts
from cgd_ray.data.records import SELECTED_SCHEMA
from cgd_ray.data.rundir import write_manifest
from cgd_ray.process.spreading import in_turn, spread
from cgd_ray.training.examples.choosing.catalogue import Catalogue
from cgd_ray.training.examples.preparation import Preparation
from cgd_ray.training.examples.tokenising import ROWS_PER_PIECE, Tokenising
from cgd_ray.training.examples.writing import make_examples
from tests.builders import read_examples, tiny_records, tiny_tokenizer

CHAT = Chat(tiny_tokenizer())


def write_selected_parts(directory: Path, rows: list[dict[str, Any]], rows_per_part: int) -> list[Path]:
    """Publish rows as a selection of several files does."""
    directory.mkdir(parents=True)
    parts = []
    for start in range(0, len(rows), rows_per_part):
        parts.append(directory / f"{start:05}.parquet")
        pq.write_table(pa.Table.from_pylist(rows[start : start + rows_per_part], schema=SELECTED_SCHEMA), parts[-1], row_group_size=5)
    write_manifest(directory, "test", parts, {})
    return parts


def mixed_records(count: int) -> list[dict[str, Any]]:
    """Records of all verdicts, two samples a problem, some of which cannot be an example or are not kept."""
    rows = tiny_records(count)
    for number, row in enumerate(rows):
        row |= {"verdict": ("right", "wrong", None)[number % 3], "problem_id": f"problem-{number // 2}"}
        row |= {"critique": None} if number % 7 == 3 else {}
        row |= {"drop_reason": "not_verified"} if number % 11 == 5 else {}
        row |= {"refinement_finish_reason": "length"} if number % 5 == 1 else {}
    return rows


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_files_hold_what_the_iteration_yields(tmp_path_factory: Any, data: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("run")
    parts = write_selected_parts(root / "selected", mixed_records(90), rows_per_part=data.draw(st.sampled_from([17, 90])))
    arm = data.draw(st.sampled_from(["cgd", "refined_only", {"cgd": 0.5, "refined_only": 0.5}]))
    critiques = "specific" if arm == "refined_only" else data.draw(st.sampled_from(["specific", "shuffled", "generic"]))
    wanted: dict[str, list[Any]] = {
        "max_examples": [None, 5, 30],
        "max_target_tokens": [None, 400],
        "verdict_mix": [None, {"right": 0.5, "wrong": 0.5}],
    }
    drawn = {name: data.draw(st.sampled_from(values)) for name, values in wanted.items()}
    training = TrainingConfig.model_validate({"arm": arm, "critiques": critiques, **drawn})
    preparation = Preparation(training, CHAT, Prompts(), parts)
    expected = {item.record_id: (item.example.input_ids, item.example.prompt_length) for item in preparation}
    details = make_examples(training, CHAT, Prompts(), root / "selected", root / "examples")
    written = read_examples(root / "examples").to_pylist()
    assert [row["record_id"] for row in written] == sorted(expected)
    assert {row["record_id"]: (row["input_ids"], row["prompt_length"]) for row in written} == expected
    assert {**details, "seconds": 0} == {**preparation.report(), "seconds": 0}


def test_all_processes_write_what_one_does(tmp_path: Path, ray_local: None) -> None:
    count = ROWS_PER_PIECE * 6 // 5
    parts = write_selected_parts(tmp_path / "selected", mixed_records(count), rows_per_part=700)
    training = TrainingConfig(critiques="shuffled")
    catalogue = Catalogue.read(training, parts, "training")
    np.save(tmp_path / "places.npy", catalogue.places(np.arange(len(catalogue))))
    num_pieces = -(-len(catalogue) // ROWS_PER_PIECE)
    assert num_pieces == 2
    found = {}
    for name, work in (("here", in_turn), ("everywhere", spread)):
        arguments = (training, Prompts(), CHAT, parts, tmp_path / "places.npy", tmp_path / name, 0)
        found[name] = [(outcomes.tolist(), reasons) for outcomes, reasons in work(Tokenising, arguments, num_pieces)]
    assert found["here"] == found["everywhere"]
    for file in sorted((tmp_path / "here").iterdir()):
        assert file.read_bytes() == (tmp_path / "everywhere" / file.name).read_bytes()


def test_a_budget_is_filled_in_waves_of_which_each_is_as_large_as_all_before(tmp_path: Path) -> None:
    rows = mixed_records(60)
    for row in rows[:50]:
        row["refinement"] = None
    write_selected_parts(tmp_path / "selected", rows, rows_per_part=60)
    progress: list[int] = []
    training = TrainingConfig(max_examples=4)
    details = make_examples(training, CHAT, Prompts(), tmp_path / "selected", tmp_path / "examples", progress.append)
    assert details["examples"] == 4
    assert progress[:3] == [4, 4, 8]
    assert sum(progress) == 60
