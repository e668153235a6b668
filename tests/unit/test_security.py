"""The lint that CI runs bans what turns data into code. SECURITY.md names the tests of all else."""

import subprocess
import sys
from pathlib import Path

import pytest

RUFF = Path(sys.executable).with_name("ruff")
HEAD = """import pickle
import subprocess

import torch
import yaml


def planted(path: str, text: str) -> object:
"""


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("yaml.load(text)", "S506"),
        ("yaml.load(text, Loader=yaml.UnsafeLoader)", "S506"),
        ("pickle.loads(text)", "S301"),
        ("eval(text)", "S307"),
        ("exec(text)", "S102"),
        ("torch.load(path)", "TID251"),
        ("torch.load(path, weights_only=False)", "TID251"),
        ("subprocess.run(text, shell=True)", "S602"),
    ],
)
def test_the_lint_finds_what_reads_code_out_of_data(line: str, rule: str) -> None:
    source = f"{HEAD}    return {line}\n"
    command = [str(RUFF), "check", "--no-cache", "--output-format=concise", "--stdin-filename", "cgd_ray/planted.py", "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    assert f" {rule} " in done.stdout, done.stdout + done.stderr
