"""What is shown is what is trained: colours from the mask, counts that add up, and text that can steer neither terminal nor browser."""

import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from cgd_ray.cli import main
from cgd_ray.config import load_config
from cgd_ray.reporting.inspection import as_html, look, show
from cgd_ray.training.examples.preparation import prepare
from tests.builders import TURN_END, tiny_model, tiny_records, write_selected

GREEN = re.compile(r"\x1b\[1;32m(.*?)\x1b\[0m", re.DOTALL)


class Run:
    """A run directory with selected records, and its config file."""

    def __init__(self, root: Path, rows: list[dict[str, Any]]) -> None:
        self.root = root
        role = {"model": str(tiny_model(root / "model"))}
        tree = {"run_dir": str(root / "run"), "problems": {"path": "p"}, "student": role, "teacher": role}
        self.config = root / "config.yaml"
        self.config.write_text(yaml.safe_dump(tree))
        write_selected(root / "run" / "selected", rows)

    def printed(self, *overrides: str, count: int = 3) -> str:
        config = load_config(self.config, overrides)
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=True, color_system="standard", soft_wrap=True, width=200)
        show(look(config, prepare(config), count), console)
        return stream.getvalue()

    def page(self, *overrides: str, count: int = 3) -> str:
        config = load_config(self.config, overrides)
        return as_html(look(config, prepare(config), count))


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


class Page(HTMLParser):
    """Collects the tags, the text of each <mark>, of each <i>, and of each <pre>, with what is inside."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: dict[str, list[str]] = {"mark": [], "pre": [], "i": []}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in self.texts:
            self._open.append(tag)
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.texts:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self._open:
            self.texts[tag][-1] += data


def test_the_trained_tokens_and_nothing_else_are_coloured(tmp_path: Path) -> None:
    rows = tiny_records(5)
    printed = Run(tmp_path, rows).printed()
    assert GREEN.findall(printed) == [row["refinement"] + TURN_END for row in rows[:3]]
    assert all(str(row["critique"]) in plain(printed) for row in rows[:3])


def test_the_counts_are_those_of_all_examples(tmp_path: Path) -> None:
    rows = [*tiny_records(10), *tiny_records(2, refinement=None), *tiny_records(1, drop_reason="attempt_empty")]
    rows[0]["attempt"] = "word " * 400
    printed = plain(Run(tmp_path, rows).printed("training.context_length=512", count=1))
    assert re.search(r"examples +│ 10 of 12 selected records", printed)
    assert re.search(r"dropped +│ 2 no_refinement", printed)
    assert re.search(r"attempt shortened +│ 1 ", printed)
    assert re.search(r"attempt shortened by [0-9,]+ tokens", printed)
    assert re.search(r"to 512, median [0-9]+; at most 512", printed)


def test_a_run_of_which_nothing_can_be_trained_on_says_why(tmp_path: Path) -> None:
    printed = plain(Run(tmp_path, tiny_records(3, critique=None)).printed())
    assert re.search(r"examples +│ 0 of 3", printed)
    assert re.search(r"dropped +│ 3 no_critique", printed)


def test_text_cannot_steer_the_terminal(tmp_path: Path) -> None:
    hostile = "\x1b[2Jgone\x07\x9b31m [bold]markup[/bold] \x85"
    printed = Run(tmp_path, tiny_records(1, refinement=hostile)).printed()
    (shown,) = GREEN.findall(printed)
    assert shown == "\\x1b[2Jgone\\x07\\x9b31m [bold]markup[/bold] \\x85" + TURN_END


def test_the_page_is_one_file_whose_texts_are_escaped(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script><img src=x onerror=alert(1)> </pre></mark> & \" ' $title ${rows}"
    text = Run(tmp_path, tiny_records(2, refinement=hostile, critique=hostile)).page()
    page = Page(text)
    assert page.texts["mark"][1:] == [hostile + TURN_END] * 2  # the first is the legend
    assert [shown.count(hostile) for shown in page.texts["pre"]] == [2, 2]
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text


def test_control_tokens_are_told_from_data_that_spells_them(tmp_path: Path) -> None:
    row = tiny_records(1, refinement=f"Say {TURN_END} and <|im_start|>.")
    page = Page(Run(tmp_path, row).page())
    legend, *coloured = page.texts["i"]
    assert legend == "Control tokens"
    assert set(coloured) == {"<|im_start|>", TURN_END}
    assert coloured.count(TURN_END) == coloured.count("<|im_start|>")
    assert page.texts["mark"][1] == f"Say {TURN_END} and <|im_start|>.{TURN_END}"


def test_the_bar_of_an_example_is_its_part_of_a_row(tmp_path: Path) -> None:
    text = Run(tmp_path, tiny_records(1)).page("training.context_length=1000", count=1)
    context, trained = (int(count) for count in re.findall(r"(\d+) tokens of context, (\d+) trained", text)[0])
    assert f'<span style="width:{context / 10:.2f}%"></span><b style="width:{trained / 10:.2f}%"></b>' in text
    assert "of the 1,000 tokens of a row" in text


def test_the_command_shows_another_arm_and_takes_overrides_anywhere(tmp_path: Path) -> None:
    run = Run(tmp_path, tiny_records(6))
    command = ["inspect", str(run.config), "--arm", "cft", "training.max_examples=4", "--count", "2"]
    done = subprocess.run([sys.executable, "-m", "cgd_ray.cli", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"by arm +│ 4 cft", done.stdout)
    assert done.stdout.count(" tokens of context, ") == 2
    assert "\x1b" not in done.stdout  # no colours in a pipe


def test_the_commands_write_what_they_are_told_to_and_nothing_in_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path, tiny_records(6))
    before = sorted((tmp_path / "run").rglob("*"))
    capfd.readouterr()
    assert main(["inspect", str(run.config), "--html", str(tmp_path / "page.html")]) == 0
    assert main(["export-data", str(run.config), "training.arm=sft", "--format", "sharegpt", "--output", str(tmp_path / "out.jsonl")]) == 0
    assert capfd.readouterr().out == f"{tmp_path / 'page.html'}: 3 examples\n{tmp_path / 'out.jsonl'}: 6 examples\n"
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == run.page()
    assert len([json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]) == 6
    assert sorted((tmp_path / "run").rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["inspect", "run_dir=/nowhere"], "run_dir /nowhere holds no selected records; run `cgd generate`"),
        (["inspect", "--arm", "dpo"], "'dpo' is no arm; valid here: cgd"),
        (["inspect", "training.critiques=shuffled", "--arm", "sft"], "critiques is shuffled, which changes what the arm cgd sees"),
        (["inspect", "student.chat_template=/nowhere.jinja"], "chat_template /nowhere.jinja does not exist"),
        (["export-data", "--format", "trl", "--output", "/proc/none/out.jsonl"], "give another file"),
        (["export-data", "--format", "trl", "--output", "OUT", "training.max_target_tokens=1"], "no example to export"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(
    arguments: list[str], expected: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path, tiny_records(3))
    command, *rest = (argument.replace("OUT", str(tmp_path / "out.jsonl")) for argument in arguments)
    capfd.readouterr()  # transformers has shown how it saved the model
    assert main([command, str(run.config), *rest]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("cgd: ")
    assert expected in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["inspect", "CONFIG", "--count", "0"], "'0' is not a whole number above 0"),
        (["inspect", "CONFIG", "--colour"], "unknown option --colour"),
        (["run", "CONFIG", "--count", "3"], "unknown option --count"),
        (["export-data", "CONFIG", "--format", "csv", "--output", "x"], "invalid choice: 'csv'"),
        (["export-data", "CONFIG", "--format", "trl"], "required: --output"),
    ],
)
def test_options_that_are_none_are_refused(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert expected in capsys.readouterr().err
