"""The commands that write a run directory: run, generate, train, evaluate."""

import argparse

from cgd_ray.commands.options import add_config, added, loaded
from cgd_ray.process.faults import refusing

COMMANDS = {
    "run": "all stages: generate, train, evaluate; finished ones are not repeated",
    "generate": "attempts, critiques and refinements, graded and selected",
    "train": "the student on the selected records, exported as a Hugging Face directory",
    "evaluate": "the student before and after, or any other model, on the problem alone",
}


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add them."""
    for name, help_text in COMMANDS.items():
        command = added(commands, name, help_text, _run)
        add_config(command)
        command.set_defaults(do=_run, retry_failed=False)  # a fault of a stage is none of the arguments'
        if name in ("run", "generate"):
            command.add_argument("--retry-failed", action="store_true", help="make the rows again that have failed before")
        command.add_argument("--take-over", action="store_true", help="make a driver end that is still at work on the run directory")
        if name == "evaluate":
            _add_model(command)


def _add_model(command: argparse.ArgumentParser) -> None:
    """Any other model in the student's place."""
    model = command.add_mutually_exclusive_group()
    model.add_argument("--model", metavar="MODEL", help="ask this model instead: a directory or a name on the hub")
    model.add_argument("--endpoint", metavar="URL", help="ask a model at an OpenAI-compatible endpoint instead; needs --served-name")
    command.add_argument("--served-name", metavar="NAME", help="what the endpoint calls the model")
    command.add_argument("--key-variable", metavar="VARIABLE", help="environment variable with the endpoint's key")
    command.add_argument("--name", metavar="NAME", help="of the answers, RUN_DIR/evaluation/NAME; from the model's if left out")
    command.set_defaults(do=_evaluate)


def _evaluate(parsed: argparse.Namespace) -> int:
    """The run's own models, or another one."""
    from cgd_ray.runs.evaluating import evaluate_model, name_of, role_of_endpoint, role_of_model

    if (model := parsed.model or parsed.served_name) is None:
        with refusing():
            if parsed.endpoint is not None:
                raise ValueError(f"--endpoint is {parsed.endpoint} without the name of a model there; give --served-name")
        return _run(parsed)
    with refusing():
        config = loaded(parsed)
        if parsed.model is not None:
            role = role_of_model(config, parsed.model)
        else:
            role = role_of_endpoint(config, parsed.endpoint, parsed.served_name, parsed.key_variable)
    evaluate_model(config, role, parsed.name or name_of(model), parsed.take_over)
    return 0


def _run(parsed: argparse.Namespace) -> int:
    with refusing():
        config = loaded(parsed)
    from cgd_ray.runs.run import execute

    execute(parsed.command, config, parsed.retry_failed, parsed.take_over)
    return 0
