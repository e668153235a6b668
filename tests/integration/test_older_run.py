"""A run directory that an older version has begun goes on: its records stay as they are, and only what is missing is made.

run_of_0_1_0 was left by a generation of that version, killed after 8 of 24 rows; paths in its config.yaml stand for where it is copied to.
"""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cgd_ray.cluster.precision import as_begun
from cgd_ray.config import Config, load_config
from cgd_ray.data.rundir import RunDir, manifest_parts
from cgd_ray.generation.pipeline import generate
from cgd_ray.problems.sources import load_problems
from cgd_ray.problems.work_list import check_work_list, make_work_list
from tests.fakes import FakeEngines, answers_made

OLD = Path(__file__).with_name("run_of_0_1_0")
NUM_PROBLEMS, NUM_MADE = 24, 8


@pytest.fixture
def older(tmp_path: Path) -> tuple[Config, RunDir]:
    """A copy, and the config that continues it."""
    root = tmp_path / "run"
    shutil.copytree(OLD, root)
    recorded = root / "config.yaml"
    recorded.write_text(recorded.read_text().replace("RUN_DIR", str(root)).replace("CHECKOUT", str(Path.cwd())))
    config = load_config("jobs/configs/tinymath.yaml", [f"run_dir={root}", f"problems.limit={NUM_PROBLEMS}"])
    begun = RunDir(root).recorded_config()
    assert begun is not None, "what an older version has recorded can be read"
    return as_begun(config, begun), RunDir(root)


def test_a_run_directory_of_an_older_version_goes_on(ray_local: None, older: tuple[Config, RunDir], tmp_path: Path) -> None:
    config, run = older
    run.check(config)
    check_work_list(make_work_list(load_problems(config.problems, "problems", []), 1), run.work_list)
    (part,) = run.records.glob("*.parquet")
    before = part.read_bytes()

    manifest = generate(config, run, engine_factory=FakeEngines(journal=str(tmp_path / "journal")))

    assert part.read_bytes() == before
    assert part in manifest_parts(run.records)
    assert (manifest["rows"], manifest["resumed"], manifest["failed"]) == (NUM_PROBLEMS, NUM_MADE, 0)
    assert len(answers_made(tmp_path / "journal")) == 3 * (NUM_PROBLEMS - NUM_MADE), "attempt, critique and refinement of the others"
    assert sum(pq.read_metadata(file).num_rows for file in manifest_parts(run.records)) == NUM_PROBLEMS


def test_it_is_still_refused_to_another_config(older: tuple[Config, RunDir]) -> None:
    config, run = older
    other = config.model_copy(update={"training": config.training.model_copy(update={"learning_rate": 1e-5})})
    with pytest.raises(ValueError, match=r"config training\.learning_rate was 0\.0003 and is 1e-05"):
        run.check(other)
