"""What a command still has to do when rows that failed are to be made again."""

from pathlib import Path
from typing import Any, cast

import pytest

from cgd_ray.cli import parser
from cgd_ray.config import Config
from cgd_ray.data.rundir import RunDir, write_manifest
from cgd_ray.generation.pipeline import records_fingerprint
from cgd_ray.runs.run import _pending
from cgd_ray.runs.stages import GENERATE, SELECT, Session

MODELS = Path("examples/tinymath/models").absolute()


def make_session(root: Path, **settings: Any) -> Session:
    """A run whose generation and selection are finished; too many rows have failed."""
    roles = {role: {"model": str(MODELS / role)} for role in ("student", "teacher")}
    config = Config.model_validate({"run_dir": str(root), "problems": {"path": "p"}, **roles})
    run = RunDir(root)
    if not run.records.exists():
        write_manifest(run.records, records_fingerprint(config), [], {"rows": 10, "failed": 4, "errors": {"attempt: refused": 4}})
        write_manifest(run.selected, "made so", [], {})
    screen = cast(Any, None)  # nothing is said
    return Session(config=config, named=config, contents={}, run=run, screen=screen, work_lists={}, decontamination=None, **settings)


def test_too_many_failed_rows_are_refused_until_they_are_to_be_made_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"4 of 10 rows failed: .* mend the cause and add --retry-failed to the same command, or choose"):
        _pending("generate", make_session(tmp_path))
    assert _pending("generate", make_session(tmp_path, retries_failed=True)) == [GENERATE, SELECT]


def test_the_commands_that_generate_take_the_option_and_no_others() -> None:
    for command in ("run", "generate"):
        assert parser().parse_args([command, "config.yaml", "--retry-failed"]).retry_failed
        assert not parser().parse_args([command, "config.yaml"]).retry_failed
    with pytest.raises(SystemExit):
        parser().parse_args(["train", "config.yaml", "--retry-failed"])
