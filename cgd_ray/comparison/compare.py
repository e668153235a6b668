"""Arms, seeds and settings of the training side by side: one set of records, a run for each cell, one table at the end.

records (once) -> the untrained student's evaluation (once) -> budget -> cells, some side by side -> comparison.json, report.html, tables.
Each step is finished when its files are there, so a comparison that was killed goes on where it was, and a finished one shows its tables
again.
How to use: `with printing_lines() as say: compare(load_comparison(path, overrides), say)`, which is `cgd compare CONFIG`.
"""

from collections.abc import Mapping, Sequence

from cgd_ray.comparison.budget import equal_budget, known_budget
from cgd_ray.comparison.cells import link_shared
from cgd_ray.comparison.design import least_effects
from cgd_ray.comparison.outcome import Outcome
from cgd_ray.comparison.plan import Plan
from cgd_ray.comparison.running import Run, Runner, Say, Task, processes
from cgd_ray.config.comparison import ComparisonConfig
from cgd_ray.data.rundir import write_json
from cgd_ray.process.faults import StageFailedError, failing, refusing
from cgd_ray.reporting.page.page import write_report
from cgd_ray.runs.contents import with_models
from cgd_ray.runs.lease import leased

UNITS = {"max_examples": "examples", "steps_per_epoch": "steps an epoch", "max_target_tokens": "tokens with loss, at most"}


def compare(comparison: ComparisonConfig, say: Say, take_over: bool = False, runner: Runner = processes) -> None:
    """Run what is unfinished of a comparison, then write comparison.json and report.html, and say the tables.

    With `take_over` a comparison that is still at work on the directory is made to end. Raises RefusedError for what is found wrong before
    anything runs, StageFailedError when a run could not finish, StoppedError or KeyboardInterrupt on a signal.
    """
    notes: list[str] = []
    with refusing():
        plan = Plan(comparison)
        plan.check_shared()
        effects = least_effects(comparison, plan.base, plan.place, notes)
    for line in (*notes, *(f"{benchmark}: {effect}" for benchmark, effect in effects.items())):
        say(line)
    with failing(plan.place.root, plan.place.logs), leased(plan.place.lease, say, take_over):
        if not _is_finished(plan):
            with runner(plan.base.cluster, comparison.parallel_cells, plan.place.logs, say) as run:
                _make(plan, run, say)
        _tell(plan, effects, say)


def _is_finished(plan: Plan) -> bool:
    """Whether nothing has to run."""
    budget = known_budget(plan.comparison, plan.trainings, plan.place) if plan.is_shared_finished() else None
    return budget is not None and not plan.unfinished(budget)


def _make(plan: Plan, run: Run, say: Say) -> None:
    """Run what is missing. Raises StageFailedError when something could not finish."""
    if not plan.is_shared_finished():
        for command in ("generate", "evaluate"):
            _succeed(run, [plan.task(plan.place.shared.root.name, command, plan.shared)])
    budget = equal_budget(plan.comparison, plan.trainings, with_models(plan.shared, ("student",)), plan.place)
    pending = plan.unfinished(budget)
    equal = ", ".join(f"{amount:,} {UNITS[setting]}" for setting, amount in budget.items())
    say(f"{len(plan.cells) - len(pending)} of {len(plan.cells)} trainings are finished, each on {equal}")
    for cell in pending:
        link_shared(plan.place, cell)
    _succeed(run, [plan.task(cell.name, "run", plan.config(cell, budget)) for cell in pending])


def _succeed(run: Run, tasks: Sequence[Task]) -> None:
    problems: Mapping[str, str] = run(tasks)
    if problems:
        name, why = next(iter(problems.items()))
        raise StageFailedError(
            f"{len(problems)} of {len(tasks)} runs did not come to their end, {name}: {why}; mend that, and the same command goes on"
        )


def _tell(plan: Plan, effects: Mapping[str, str], say: Say) -> None:
    """Write and say what was found."""
    outcome, place = Outcome.of(plan), plan.place
    write_json(place.result, outcome.as_json(effects, known_budget(plan.comparison, plan.trainings, place)))
    first = [place.run(cell) for cell in plan.cells if cell.seed == plan.comparison.seeds[0]]
    write_report([place.shared, *first], place.report, place.result)
    for line in (*outcome.lines(), f"result: {place.result}", f"report: {place.report}"):
        say(line)
