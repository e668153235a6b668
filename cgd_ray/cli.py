"""`cgd`: parses the command line and carries the command out, which imports what it needs; nothing heavy is imported before.

`cgd run jobs/configs/tinymath.yaml training.learning_rate=1e-4`; `cgd --help` lists the commands, commands/ has them.
Exit codes: 0 done, 1 a stage failed (what it made is kept), 2 refused before anything began, 130 interrupted, 143 stopped by SIGTERM; of a
job that is followed, those of its driver.
"""

import argparse
import sys
from collections.abc import Sequence

from cgd_ray import __version__
from cgd_ray.commands import clusters, comparing, jobs, looking, planning, running, seeing
from cgd_ray.commands.options import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_REFUSED


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parsed = _parsed(parser(), arguments)
    from cgd_ray.process.faults import RefusedError, StageFailedError
    from cgd_ray.process.stopping import StoppedError

    try:
        exit_code: int = parsed.do(parsed)
    except RefusedError as error:
        return _complain(error, EXIT_REFUSED)
    except StageFailedError as error:
        return _complain(error, EXIT_FAILED)
    except StoppedError as error:
        return _complain(error, error.exit_code)
    except KeyboardInterrupt:
        return _complain(parsed.when_interrupted, EXIT_INTERRUPTED)
    return exit_code


def parser() -> argparse.ArgumentParser:
    """All commands with their arguments."""
    made = argparse.ArgumentParser(
        prog="cgd", description="Critique-Guided Distillation on Ray.", epilog="Docs: README.md, docs/. `cgd COMMAND --help` tells more."
    )
    made.add_argument("--version", action="version", version=f"cgd {__version__}")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for family in (planning, running, seeing, looking, comparing, jobs, clusters):
        family.add(commands)
    return made


def _parsed(made: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Overrides may also stand behind options, where argparse does not expect them."""
    parsed, further = made.parse_known_args(arguments)
    if unknown := [word for word in further if word.startswith("-")]:
        made.error(f"unknown option {unknown[0]}")
    if further and "overrides" not in parsed:
        made.error(f"unknown argument {further[0]}")
    if further:
        parsed.overrides += further
    return parsed


def _complain(message: object, exit_code: int) -> int:
    for line in str(message).splitlines():
        sys.stderr.write(f"cgd: {line}\n")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
