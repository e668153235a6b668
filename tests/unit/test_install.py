"""What `make` sets up, on machines that lack one thing each: `.ci/install` with a Python that only notes what it is asked for."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.processes import begun

SCRIPT = Path(__file__).parents[2] / ".ci" / "install"
TOOLS = [
    "bash",
    "cp",
    "cut",
    "df",
    "dirname",
    "du",
    "env",
    "find",
    "flock",
    "grep",
    "head",
    "mkdir",
    "rm",
    "setsid",
    "sleep",
    "tail",
    "touch",
    "uname",
    "wc",
]
"""All that the script needs of a system, besides compilers and Python."""
TORCH = "torch==2.13.0+cpu"
INDEX = "--index-url https://download.pytorch.org/whl/cpu"

PYTHON = """#!/usr/bin/env bash
# Notes each call. What it is told to lack it fails at: one of venv, headers, torch (in the configured indexes), index (PyTorch's).
echo "$*" >> "$CALLS"
lacks() { [[ " $LACKING " == *" $1 "* ]]; }
case "$*" in
  *ensurepip*) ! lacks venv ;;
  *Python.h*) ! lacks headers ;;
  *print*executable*) echo "$0" ;;
  "-m venv "*) mkdir -p "$3/bin" "$3/lib/python3.11/site-packages" && cp "$0" "$3/bin/python" ;;
  *index-url*) ! lacks index || { echo "ERROR: no route to host"; exit 1; } ;;
  *"pip install"*torch==*) ! lacks torch || { echo "ERROR: No matching distribution found for torch==2.13.0+cpu"; exit 1; } ;;
  *--requirement*) ! lacks haste || { touch waiting; exec sleep 60; } ;;
esac
"""
OTHER_PYTHON = """#!/usr/bin/env bash
[[ $1 == --version ]] && echo "Python 3.12.7"
"""
DEAD_SHIM = """#!/usr/bin/env bash
echo "pyenv: python3.11: command not found" >&2
exit 127
"""


class Machine:
    """A checkout, and a system with nothing but what the script may ask for."""

    def __init__(self, root: Path) -> None:
        self.home, self.bin, self.checkout, self._calls = root / "home", root / "bin", root / "checkout", root / "calls"
        for folder in (self.home, self.bin, self.checkout / ".ci"):
            folder.mkdir(parents=True)
        shutil.copy(SCRIPT, self.checkout / ".ci" / "install")
        (self.checkout / "pyproject.toml").touch()
        (self.checkout / "constraints.txt").write_text(f"numpy==2.3.5\n{TORCH}\n")
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None
            (self.bin / tool).symlink_to(found)
        for tool in ("gcc", "g++", "make"):
            (self.bin / tool).symlink_to(self.bin / "env")
        self.add("python3.11", PYTHON)

    def add(self, name: str, content: str, folder: Path | None = None) -> Path:
        """A program of this machine's."""
        program = (folder or self.bin) / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(content)
        program.chmod(0o755)
        return program

    def begin(self, *lacking: str) -> "subprocess.Popen[bytes]":
        """The script, as it runs on a machine without these."""
        environment = {"PATH": str(self.bin), "HOME": str(self.home), "CALLS": str(self._calls), "LACKING": " ".join(lacking)}
        script = str(self.checkout / ".ci" / "install")
        return begun([script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, *lacking: str) -> tuple[int, str]:
        """Exit code and what is printed."""
        process = self.begin(*lacking)
        output, errors = process.communicate()
        return process.returncode, (output + errors).decode()

    def refusal(self, *lacking: str) -> str:
        """The last line of a call that must fail."""
        code, output = self.run(*lacking)
        assert code == 1, output
        assert not self.is_ready
        return output.splitlines()[-1]

    @property
    def pip_calls(self) -> list[str]:
        """The arguments of each `pip install`, without those that all have."""
        calls = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [call.split("--no-compile ")[1] for call in calls if "pip install" in call]

    @property
    def is_ready(self) -> bool:
        """Whether make would leave the environment as it is."""
        return (self.checkout / ".venv" / ".installed").exists()


REST = ["--requirement constraints.txt", "--no-build-isolation --editable ."]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_everything_is_installed_once_from_the_configured_indexes(machine: Machine) -> None:
    code, output = machine.run()
    assert (code, machine.is_ready, machine.pip_calls) == (0, True, [TORCH, *REST]), output
    assert machine.run() == (0, "")
    assert machine.pip_calls == [TORCH, *REST]


def test_pytorchs_own_index_is_asked_for_torch_alone_where_the_others_lack_it(machine: Machine) -> None:
    code, output = machine.run("torch")
    assert (code, machine.is_ready, machine.pip_calls) == (0, True, [TORCH, f"{INDEX} --retries 2 {TORCH}", *REST]), output


def test_a_torch_that_is_nowhere_is_told_in_one_line_after_what_pip_said(machine: Machine) -> None:
    _, output = machine.run("torch", "index")
    pip_said, line = output.splitlines()[-2:]
    assert pip_said == "ERROR: no route to host"
    assert f"{TORCH} is neither in pip's configured indexes nor to be had from {INDEX.split()[1]}; allow that address, or" in line


def test_another_python_beside_the_right_one_is_passed_over(machine: Machine) -> None:
    machine.add("python3", OTHER_PYTHON.replace("[[", "exit 1; [["))
    assert machine.run()[0] == 0


def test_a_python_that_only_pyenv_knows_is_found_behind_a_shim_that_leads_nowhere(machine: Machine) -> None:
    machine.add("python3.11", DEAD_SHIM)
    hidden = machine.add("python3", PYTHON, machine.home / ".pyenv/versions/3.11.9/bin")
    code, output = machine.run()
    assert code == 0, output
    assert f"making .venv with {hidden}" in output


def test_no_python_of_this_version_is_told_with_the_version_that_is_there(machine: Machine) -> None:
    machine.add("python3.11", DEAD_SHIM)
    machine.add("python3", OTHER_PYTHON)
    assert "Python 3.11 is needed, python3 is Python 3.12.7; install it beside that one (apt install python3.11-dev" in machine.refusal()


@pytest.mark.parametrize(
    ("lacking", "expected"),
    [
        ("venv", r"lacks the modules venv and ensurepip; install them (apt install python3.11-venv) and run make again"),
        ("headers", r"lacks its C headers (Python.h); install them (apt install python3.11-dev, dnf install python3.11-devel)"),
    ],
)
def test_a_python_in_parts_is_told_with_the_package_that_is_missing(machine: Machine, lacking: str, expected: str) -> None:
    assert expected in machine.refusal(lacking)


@pytest.mark.parametrize("tool", ["gcc", "g++"])
def test_a_missing_compiler_is_told_before_anything_is_fetched(machine: Machine, tool: str) -> None:
    (machine.bin / tool).unlink()
    assert f"{tool} is missing; install a compiler (apt install build-essential" in machine.refusal()
    assert machine.pip_calls == []


def test_a_disk_without_room_is_told_before_anything_is_fetched(machine: Machine) -> None:
    (machine.bin / "df").unlink()
    machine.add("df", "#!/usr/bin/env bash\necho Avail\necho 1048576\n")
    assert f"{machine.checkout} has 1024 MiB free, 6 GiB are needed; make room" in machine.refusal()
    assert machine.pip_calls == []


def wait_for(file: Path, process: "subprocess.Popen[bytes]") -> None:
    while not file.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def test_an_interrupted_install_says_so_and_the_next_one_repeats_what_was_half_done(machine: Machine) -> None:
    process = machine.begin("haste")
    wait_for(machine.checkout / "waiting", process)
    packages = machine.checkout / ".venv/lib/python3.11/site-packages"
    for name in ("whole-1.dist-info", "half-1.dist-info", "~eplaced-1.dist-info"):
        (packages / name).mkdir(parents=True)
    (packages / "whole-1.dist-info" / "INSTALLER").touch()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert (process.returncode, machine.is_ready) == (130, False)
    assert errors.decode() == "install: interrupted; the same command goes on from here\n"
    assert machine.run()[0] == 0
    assert [path.name for path in packages.iterdir()] == ["whole-1.dist-info"]


def test_of_two_at_once_the_second_waits_and_finds_it_done(machine: Machine) -> None:
    first = machine.begin("haste")
    wait_for(machine.checkout / "waiting", first)
    second = machine.begin()
    assert second.stdout is not None
    assert second.stdout.readline() == b"install: another make is installing, waiting for it\n"
    (machine.checkout / ".venv" / ".installed").touch()  # as the first one's last deed
    first.terminate()
    assert (second.wait(), first.wait()) == (0, 143)
    assert machine.pip_calls == [TORCH, REST[0]]
