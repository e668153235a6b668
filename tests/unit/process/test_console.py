"""A person sees plain lines or bars and nothing else; all chatter of the process goes to the log, and stdout comes back."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cgd_ray.process.console import Screen

CHATTER = """
import os, subprocess, sys
from pathlib import Path
from cgd_ray.process.console import Screen
with Screen(Path(sys.argv[1])) as screen:
    print("PYTHON CHATTER")
    sys.stderr.write("ERROR CHATTER\\n")
    os.write(1, b"NATIVE CHATTER\\n")
    subprocess.run(["echo", "CHILD CHATTER"], check=True)
    screen.say("checking [/INST] [bold]models[/bold] " + "x" * 200)
    with screen.progress("generate", 1234, "records") as bar:
        for _ in range(3):
            bar.update(bar.done + 400, "a note", remaining_s=3723)
        with screen.progress("train", 56, "steps") as other:
            other.advance(34)
    screen.table("cgd run", [{"stage": "problems", "result": "1,234"}, {"stage": "verdicts", "result": "1,000 right"}])
print("AFTER")
"""
KINDS = ["PYTHON", "ERROR", "NATIVE", "CHILD"]


def run_on_terminal(log: Path) -> str:
    """What the script writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, "-c", CHATTER, str(log)], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = b""
    while True:
        try:
            written += (chunk := os.read(ours, 65536))
        except OSError:  # the terminal's other end is closed
            break
        if not chunk:
            break
    os.close(ours)
    assert process.wait() == 0
    return written.decode()


def test_without_a_terminal_there_are_plain_lines_and_the_chatter_is_in_the_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHATTER, str(tmp_path / "driver.log")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, inner, second, *table, last = done.stdout.splitlines()
    assert first == "checking [/INST] [bold]models[/bold] " + "x" * 200
    assert re.fullmatch(r"train            34/56 steps in \d+ s", inner)
    assert re.fullmatch(r"generate         1,200/1,234 records in \d+ s", second)
    assert "1,000 right" in "".join(table)
    assert last == "AFTER"
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    log = (tmp_path / "driver.log").read_text()
    assert all(log.count(f"{kind} CHATTER\n") == 1 for kind in KINDS)


def test_on_a_terminal_there_is_a_bar_and_the_chatter_is_in_the_log(tmp_path: Path) -> None:
    shown = run_on_terminal(tmp_path / "driver.log")
    assert "\x1b[" in shown
    assert "1200/1234" in shown
    assert "34/56" in shown, "two stages at the same time have a bar each"
    assert "a note" in shown
    assert "ETA 1:02:03" in shown
    assert "CHATTER" not in shown
    assert shown.strip().endswith("AFTER")
    assert "NATIVE CHATTER" in (tmp_path / "driver.log").read_text()


def test_stdout_comes_back_when_the_run_fails_and_the_log_is_added_to(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "driver.log"

    def fail(word: str) -> None:
        with Screen(log):
            os.write(2, word.encode())
            raise RuntimeError(word)

    for word in ("one", "two"):
        with pytest.raises(RuntimeError, match=word):
            fail(word)
    os.write(1, b"back")
    os.write(2, b"here")
    assert capfd.readouterr() == ("back", "here")
    assert log.read_text() == "onetwo"


def test_a_log_that_cannot_be_written_leaves_stdout_as_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileNotFoundError), Screen(tmp_path / "missing" / "driver.log"):
        pass
    os.write(1, b"still here")
    assert capfd.readouterr().out == "still here"
