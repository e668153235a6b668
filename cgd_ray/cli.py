"""`cgd`: parses the command line, loads the config, then imports the stage; nothing heavy is imported before.

`cgd run jobs/configs/tinymath.yaml training.learning_rate=1e-4`; `cgd --help` lists the commands.
Exit codes: 0 done, 1 a stage failed (what it made is kept), 2 refused before anything began, 130 interrupted, 143 stopped by SIGTERM.
"""

import argparse
import sys
from collections.abc import Sequence

from cgd_ray import __version__

COMMANDS = {
    "run": "all stages: generate, train, evaluate; finished ones are not repeated",
    "generate": "attempts, critiques and refinements, graded and selected",
    "train": "the student on the selected records, exported as a Hugging Face directory",
    "evaluate": "the student before and after, on the problem alone",
    "config": "print the resolved config with each setting's documentation",
}
EXIT_FAILED, EXIT_REFUSED, EXIT_INTERRUPTED, EXIT_STOPPED = 1, 2, 130, 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        return _run(parsed.command, parsed.config, parsed.overrides)
    except KeyboardInterrupt:
        return _complain("interrupted; the same command goes on from here", EXIT_INTERRUPTED)


def _run(command: str, config_path: str, overrides: Sequence[str]) -> int:
    from cgd_ray.config import load_config, to_yaml

    try:
        config = load_config(config_path, overrides)
    except ValueError as error:
        return _complain(error, EXIT_REFUSED)
    if command == "config":
        sys.stdout.write(to_yaml(config, with_docs=True))
        return 0
    from cgd_ray.generation.draining import StoppedError
    from cgd_ray.run import RefusedError, StageFailedError, execute

    try:
        execute(command, config)
    except RefusedError as error:
        return _complain(error, EXIT_REFUSED)
    except StageFailedError as error:
        return _complain(error, EXIT_FAILED)
    except StoppedError as error:
        return _complain(error, EXIT_STOPPED)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cgd", description="Critique-Guided Distillation on Ray.", epilog="Docs: README.md, docs/. `cgd COMMAND --help` tells more."
    )
    parser.add_argument("--version", action="version", version=f"cgd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_text in COMMANDS.items():
        command = commands.add_parser(name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}.")
        command.add_argument("config", metavar="CONFIG", help="YAML file; jobs/configs/ holds examples")
        command.add_argument(
            "overrides", metavar="a.b=c", nargs="*", help="settings that replace the file's, e.g. training.num_workers=4; values are YAML"
        )
    return parser


def _complain(message: object, exit_code: int) -> int:
    for line in str(message).splitlines():
        sys.stderr.write(f"cgd: {line}\n")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
