"""MLflow: the server that MLFLOW_TRACKING_URI names on the workers' nodes, or a database in the training's directory.

The only file that knows mlflow.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import mlflow

EXPERIMENT = "cgd_ray"


class MlflowTracker:
    """One MLflow run for the whole training, whatever was resumed; its id is kept in a file."""

    def __init__(self, directory: Path, run_id: str, steps_done: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        if "MLFLOW_TRACKING_URI" not in os.environ:
            mlflow.set_tracking_uri(f"sqlite:///{directory / 'mlflow.db'}")
        mlflow.set_experiment(EXPERIMENT)
        note = directory / "run_id"
        run = mlflow.start_run(run_id=note.read_text(encoding="utf-8") if note.exists() else None, run_name=run_id)
        note.write_text(run.info.run_id, encoding="utf-8")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """All metrics in one call."""
        mlflow.log_metrics(dict(metrics), step=step)

    def close(self) -> None:
        """Mark the run as finished."""
        mlflow.end_run()
