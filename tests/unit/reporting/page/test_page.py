"""The page is one file that runs its own scripts and nothing else, and is made of libraries that nobody has touched."""

import gzip
import hashlib
import json
import re
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.reporting.page.page import APP, ASSETS, LIBRARIES, render, write_report
from cgd_ray.reporting.page.payload import VERSION, build_payload
from tests.unit.reporting.page.made_run import MadeRun

HOSTILE = "</script><img src=x onerror=alert(1)>"
MOST_LIBRARY_BYTES = 1_500_000
FOUND_IN_SOURCE = {name: (ASSETS / "app" / f"{name}.js").read_text(encoding="utf-8") for name in APP}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a run with hostile records."""
    directory = tmp_path_factory.mktemp("run")
    made = MadeRun(directory / HOSTILE.replace("/", ""), num_records=4)
    made.selected([made.record(9, question=HOSTILE, attempt=HOSTILE, error=HOSTILE)])
    write_report([made.directory], directory / "report.html")
    return (directory / "report.html").read_text(encoding="utf-8")


def policy(page: str) -> dict[str, str]:
    (content,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    return dict(part.strip().split(" ", 1) for part in content.split(";"))


def unpacked(page: str) -> dict[str, Any]:
    (packed,) = re.findall(r'id="payload"[^>]*>([^<]*)<', page)
    found: dict[str, Any] = json.loads(gzip.decompress(b64decode(packed)))
    return found


def test_the_scripts_are_those_that_the_policy_names(page: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts]
    assert policy(page)["script-src"].split() == hashes
    assert len(scripts) == len(LIBRARIES) + 1


def test_nothing_is_loaded_or_sent_and_no_text_becomes_markup(page: str) -> None:
    rules = policy(page)
    assert rules["default-src"] == rules["connect-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["require-trusted-types-for"] == "'script'"
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert set(re.findall(r"<[^>]*\b(?:src|href)=\"?([^\" >]*)", markup)) == {"data:,", "#content"}
    assert not re.findall(r"url\((?!data:)", markup)


def test_a_page_that_polls_may_ask_its_own_origin_and_no_other() -> None:
    assert policy(render(build_payload(), live_url="payload.json"))["connect-src"] == "'self'"


def test_what_a_model_wrote_is_nowhere_in_the_markup(page: str) -> None:
    assert "onerror=alert" not in page.replace("&lt;img src=x onerror=alert(1)&gt;", "")
    assert unpacked(page)["runs"][0]["data"]["records"][-1]["attempt"] == HOSTILE


def test_lone_surrogates_pass(tmp_path: Path) -> None:
    payload = {**build_payload(), "title": "\udcff", "made": "\ud800"}
    page = render({**payload, "title": "t"})
    assert unpacked(page)["made"] == "\ud800"


def test_the_page_and_the_payload_agree_on_a_version() -> None:
    assert f"const VERSION = {VERSION};" in FOUND_IN_SOURCE["main"]


def test_the_libraries_are_as_their_makers_published_them() -> None:
    root = ASSETS / "libraries"
    named = {
        file["path"]: file["sha256"]
        for library in json.loads((root / "manifest.json").read_text())["libraries"]
        for file in library["files"]
    }
    present = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file() and path.name != "manifest.json"}
    assert named == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in present.items()}
    assert sum(path.stat().st_size for path in present.values()) <= MOST_LIBRARY_BYTES


def test_each_library_has_its_licence() -> None:
    for library in json.loads((ASSETS / "libraries" / "manifest.json").read_text())["libraries"]:
        assert library["licence"] in {"ISC", "MIT", "BSD-3-Clause"}
        assert any(file["packed"] == "LICENSE" for file in library["files"])


def test_every_file_of_the_app_is_on_the_page() -> None:
    assert sorted(APP) == sorted(path.stem for path in (ASSETS / "app").iterdir())


def test_the_files_of_the_app_can_be_joined() -> None:
    """In one scope no name may stand for two things, and an import must be of something that an earlier file exports by that name."""
    defined = [
        name
        for source in FOUND_IN_SOURCE.values()
        for name in re.findall(r"^(?:export )?(?:async )?(?:function|const|let) (\w+)", source, re.MULTILINE)
    ]
    assert len(defined) == len(set(defined))
    exported: set[str] = set()
    for source in FOUND_IN_SOURCE.values():
        for names, file in re.findall(r'^import \{([^}]*)\} from "\./(\w+)\.js";$', source, re.MULTILINE):
            wanted = {name.strip() for name in names.split(",") if name.strip()}
            assert {f"{file}.{name}" for name in wanted} <= exported
        (own,) = [name for name, content in FOUND_IN_SOURCE.items() if content is source]
        exported |= {f"{own}.{name}" for name in re.findall(r"^export (?:async )?(?:function|const) (\w+)", source, re.MULTILINE)}


@pytest.mark.parametrize("name", APP)
def test_the_app_makes_no_markup_from_text(name: str) -> None:
    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function|srcdoc", FOUND_IN_SOURCE[name]
    )
