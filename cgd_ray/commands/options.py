"""How a command is described and refused, arguments that several commands take, and what commands write with.

A command is a function from the parsed arguments to an exit code; `added(commands, name, help, do)` makes its parser.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cgd_ray.process.faults import refusing

if TYPE_CHECKING:
    from cgd_ray.config import Config

Do = Callable[[argparse.Namespace], int]

EXIT_FAILED, EXIT_REFUSED, EXIT_INTERRUPTED = 1, 2, 130
GOES_ON = "interrupted; the same command goes on from here"


def added(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, help_text: str, do: Do) -> argparse.ArgumentParser:
    """A new command, which `do` carries out."""
    command = commands.add_parser(name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}.")
    command.set_defaults(do=partial(_refusing, do), when_interrupted=GOES_ON)
    return command


def _refusing(do: Do, parsed: argparse.Namespace) -> int:
    """What is wrong with the arguments, or with a file that they name, refuses the command in one line."""
    with refusing():
        return do(parsed)


def add_config(command: argparse.ArgumentParser) -> None:
    """The run's config and what replaces its settings."""
    command.add_argument("config", metavar="CONFIG", help="YAML file; jobs/configs/ holds examples")
    command.add_argument(
        "overrides", metavar="a.b=c", nargs="*", help="settings that replace the file's, e.g. training.num_workers=4; values are YAML"
    )


def add_address(command: argparse.ArgumentParser) -> None:
    """Which cluster."""
    command.add_argument(
        "--address",
        metavar="URL",
        help="of the cluster's dashboard, e.g. http://HEAD:8265; RAY_API_SERVER_ADDRESS or RAY_ADDRESS if left out",
    )


def positive(text: str) -> int:
    """A count, as argparse's type."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def loaded(parsed: argparse.Namespace) -> "Config":
    """The config that the arguments name. Raises ValueError for what is wrong with it."""
    from cgd_ray.config import load_config

    return load_config(parsed.config, parsed.overrides)


def looked_at_run(parsed: argparse.Namespace) -> "Config":
    """The same, for a command that only looks at the run: of one on an object store there is a copy on disk."""
    from cgd_ray.runs.remote.working_copy import looked_at

    return looked_at(loaded(parsed))


def write(text: str) -> None:
    """To standard output, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def say(line: str) -> None:
    """One line to standard output."""
    write(f"{line}\n")


def told(path: Path, what: str) -> int:
    """Say that a file was written; the exit code of that."""
    say(f"{path}: {what}")
    return 0
