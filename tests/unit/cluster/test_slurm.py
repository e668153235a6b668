"""The script for sbatch: valid, sized by the config, and ended as the run ended.

Slurm's and Ray's commands are stand-ins here, of which each keeps one property; tests/cluster has the real ones.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cgd_ray.cli import main
from cgd_ray.cluster.rendering import render
from cgd_ray.config import read_config
from tests.processes import begun

RECIPE = "jobs/configs/recipes/llama31_8b_published.yaml"
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
SRUN = """#!/bin/bash
# a process for each node, and with --kill-on-bad-exit none goes on once one has failed
case "$*" in *hostname*) echo 10.0.0.1; exit 0;; esac
while [[ "$1" == --* ]]; do shift; done
for node in 0 1; do NODE=$node setsid "$@" & pids+=($!); done
code=0
for _ in 0 $([ -z "$DEAF_NODE" ] && echo 1); do
  wait -n || { code=$?; for pid in "${pids[@]}"; do kill -- "-$pid" 2> /dev/null; done; }
done
[ -n "$DEAF_NODE" ] && sleep 20
exit $code
"""
RAY = """#!/bin/bash
# the head runs what stands behind --, the other node stays until the head has ended; a `ray start` that fails ends with 0
[ "$NODE" = "$FAILING_NODE" ] && { echo "Failed to start Ray"; exit 0; }
while [ "$1" != -- ]; do shift; done; shift
if [ "$NODE" = 0 ]; then "$@"; code=$?; touch "$state/stopped"; exit $code; fi
until [ -e "$state/stopped" ]; do sleep 0.05; done
"""
CGD = """#!/bin/bash
# a run that says that it is at work, and ends with a code, or with 143 when it is asked to
[ "$RAY_ADDRESS" = "$address" ] && [ -s "$RAY_AUTH_TOKEN_PATH" ] || exit 9
trap 'echo "{}" > "$RUN_DIR/summary.json"; exit 143' TERM
touch "$RUN_DIR/at_work"
for _ in $(seq "${CYCLES:-1}"); do sleep 0.1; done
[ "$CODE" = 0 ] && echo "{}" > "$RUN_DIR/summary.json"
exit "$CODE"
"""
SCONTROL = '#!/bin/bash\ncase "$1" in show) printf "n1\\nn2\\n";; requeue) echo "$2" > "$RUN_DIR/requeued";; esac\n'


def rendered(*values: str, overrides: tuple[str, ...] = ()) -> str:
    return render(read_config(RECIPE, overrides), "slurm", ["environment=/shared/cgd", *values])


class Job:
    """A script as Slurm would run it on the first of two nodes."""

    def __init__(self, root: Path, **environment: str) -> None:
        self.run_dir, bin = root / "run", root / "environment" / "bin"
        bin.mkdir(parents=True)
        for name, content in {"srun": SRUN, "ray": RAY, "cgd": CGD, "scontrol": SCONTROL}.items():
            (bin / name).write_text(content)
            (bin / name).chmod(0o755)
        script = root / "run.sbatch"
        overrides = (f"run_dir={self.run_dir}",)
        text = render(read_config(RECIPE, overrides), "slurm", [f"environment={root / 'environment'}"])
        script.write_text(text.replace("late_s=2", "late_s=0.01"))
        slurm = {"SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_NUM_NODES": "2"}
        told = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}", "RUN_DIR": str(self.run_dir), **slurm, "CODE": "0", **environment}
        self.process = begun(["bash", str(script)], env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def ended(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=60)
        return self.process.returncode, output.decode()


@pytest.mark.parametrize("code", ["0", "1", "2", "137"])
def test_the_script_ends_as_the_run_ended(code: str, tmp_path: Path) -> None:
    job = Job(tmp_path, CODE=code)
    assert job.ended()[0] == int(code)
    (state,) = (job.run_dir / "slurm").iterdir()
    assert not (state / "token").exists()
    assert (state / "job.yaml").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("node", ["0", "1"])
def test_a_node_on_which_ray_does_not_start_fails_the_job(node: str, tmp_path: Path) -> None:
    code, output = Job(tmp_path, FAILING_NODE=node, CYCLES="600").ended()
    assert code == 1
    assert "cgd: Ray did not start, or ended too early, on " in output


def test_a_node_that_never_says_that_it_has_ended_does_not_keep_the_job(tmp_path: Path) -> None:
    assert Job(tmp_path, DEAF_NODE="1").process.wait(timeout=60) == 0


def test_a_run_that_says_all_is_well_and_has_no_summary_has_failed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    job = Job(tmp_path, RUN_DIR="/nowhere")
    assert job.ended()[0] == 1


def test_a_job_whose_time_is_nearly_over_brings_its_run_to_an_end_and_is_queued_again(tmp_path: Path) -> None:
    job = Job(tmp_path, CYCLES="600")
    while not (job.run_dir / "at_work").exists():
        assert job.process.poll() is None
        time.sleep(0.05)
    job.process.send_signal(signal.SIGTERM)
    code, output = job.ended()
    assert code == 143, output
    assert (job.run_dir / "requeued").read_text() == "77\n"


@pytest.mark.parametrize(
    "values",
    [
        (),
        ("nodes=4", "gpus_per_node=0", "cpus_per_node=8", "partition=a", "account=b", "time=2-00:00:00", "hub_cache=/a b/hub"),
        ("environment=/with a space/it's",),
    ],
)
def test_shellcheck_finds_nothing(values: tuple[str, ...], tmp_path: Path) -> None:
    script = tmp_path / "run.sbatch"
    script.write_text(rendered(*values, overrides=("run_dir='/shared/a b/it is'",) if values else ()))
    done = subprocess.run([SHELLCHECK, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert subprocess.run(["bash", "-n", script]).returncode == 0


def test_options_that_only_a_head_takes_are_given_to_no_node() -> None:
    (line,) = [line for line in rendered().splitlines() if line.startswith("ray symmetric-run")]
    assert "dashboard" not in line
    assert '--min-nodes "$SLURM_JOB_NUM_NODES"' in line


@pytest.mark.parametrize(
    ("values", "overrides", "nodes"),
    [
        ((), (), 2),
        (("gpus_per_node=4",), (), 4),
        (("nodes=3",), (), 3),
        ((), ("training.num_workers=8",), 2),
        ((), ("training.streaming=true",), 4),
        (("gpus_per_node=0",), (), 1),
    ],
)
def test_the_job_has_nodes_for_each_phase(values: tuple[str, ...], overrides: tuple[str, ...], nodes: int) -> None:
    assert f"\n#SBATCH --nodes={nodes}\n" in rendered(*values, overrides=overrides)


@pytest.mark.parametrize(
    ("values", "overrides", "message"),
    [
        ((), (), "cgd: setting environment is missing; give environment=VALUE\n"),
        (("environment=/e", "nodes=1"), (), "cgd: nodes is 1, and the config needs 2 with 8 GPUs each at once; raise it\n"),
        (("environment=/e", "partition=a b"), (), "cgd: config: partition is 'a b'; give a name of letters"),
        (("environment=/e", "time=soon"), (), "cgd: setting time is 'soon': "),
        (("environment=/e",), ("run_dir=s3://b/x",), "cgd: run_dir s3://b/x is a URL, and this kind of script keeps its state there; "),
        (("environment=/e",), ("run_dir=$HOME/runs",), "cgd: run_dir $HOME/runs is not written out"),
        (
            ("environment=/e",),
            ("problems.path=README.md",),
            "cgd: problems.path README.md is a file of this machine, and the run is elsewhere",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    values: tuple[str, ...], overrides: tuple[str, ...], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    told = [word for value in values for word in ("--set", value)]
    assert main(["cluster", "render", RECIPE, *overrides, "--kind", "slurm", *told]) == 2
    err = capfd.readouterr().err
    assert err.startswith(message), err
    assert err.count("\n") == 1
