"""The report page in a real browser, from a file: it draws everything, asks for nothing, is quick, and is harmless whatever models wrote.

Needs Debian's chromium, the Python package playwright, and axe-core from the npm registry, which is kept in build/.
How to use: `python -m pytest -m browser tests/browser`.
"""

import hashlib
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cgd_ray.data.rundir import write_json
from cgd_ray.reporting.page.page import as_json, render, write_report
from cgd_ray.reporting.page.payload import build_payload
from tests.unit.reporting.page.made_run import MadeRun

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")
AXE = "axe-core-4.14.1"
AXE_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
BUILD = Path(__file__).parents[2] / "build"
MOST_SEARCH_MS = 200
HOSTILE = "</script><img src=x onerror=alert(1)><svg onload=alert(2)>"
FORMULAS = (
    r"$\href{javascript:alert(3)}{click}$ \(\url{javascript:alert(4)}\) $\htmlStyle{position:fixed}{x}$ "
    r"$\includegraphics{https://example.org/x}$ $\def\a{\a\a}\a$ \[\rule{9999em}{9999em}\] $\frac{1}{$ \boxed{\boxed{\boxed{1}}"
)
COMPARISON = {
    "rows": [
        {"name": "trained against base", "benchmark": name, "difference": 0.3, "interval": [0.2, 0.4], "p": 0.0001, "p_holm": 0.0002}
        for name in ("tinymath", "amc23")
    ]
}

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")]


@dataclass
class Visit:
    """A page in the browser, and everything that it should not have done."""

    page: Any
    told: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def open(self, address: str) -> None:
        self.page.on("console", lambda message: self.told.append(message.text))
        self.page.on("pageerror", lambda error: self.told.append(str(error)))
        self.page.on("dialog", self._dismiss)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.page.wait_for_selector("html[data-ready]")

    def _dismiss(self, dialog: Any) -> None:
        self.told.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def count(self, selector: str) -> int:
        return int(self.page.locator(selector).count())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    driver = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
    with driver.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def axe() -> str:
    """The checker's script."""
    archive = BUILD / f"{AXE}.tgz"
    if not archive.exists():
        if shutil.which("npm") is None:
            pytest.skip("no npm here, which fetches axe-core")
        BUILD.mkdir(exist_ok=True)
        found = subprocess.run(["npm", "pack", "--silent", AXE.replace("-4", "@4")], cwd=BUILD, check=False, capture_output=True)
        if found.returncode:
            pytest.skip("axe-core cannot be fetched here")
    with tarfile.open(archive) as opened:
        script = opened.extractfile("package/axe.min.js")
        assert script is not None
        content = script.read()
    assert hashlib.sha256(content).hexdigest() == AXE_SHA256
    return content.decode("utf-8")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a finished run of 200 records and two hostile ones."""
    made = MadeRun(tmp_path_factory.mktemp("made") / "run", num_records=200)
    texts = {"question": HOSTILE, "attempt": f"{HOSTILE} {FORMULAS}", "refinement": f"\u202e{HOSTILE} {FORMULAS} \x00\x1b[31m"}
    hostile = made.record(
        9000,
        record_id="hostile",
        **texts,
        critique="a" * 1_000_000,
        direct="\\[" * 90_000,
        error=None,
        leaks=[HOSTILE],
        verdict="right",
        drop_reason=HOSTILE,
    )
    run = made.finish([hostile])
    write_json(run.root / "comparison.json", COMPARISON)
    write_report([run], run.root / "report.html")
    return run.root / "report.html"


@contextmanager
def visiting(browser: Any, address: str, **options: Any) -> Iterator[Visit]:
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
    visit = Visit(context.new_page())
    try:
        visit.open(address)
        yield visit
    finally:
        context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 390)])
def test_everything_is_drawn_and_nothing_is_asked_for(browser: Any, report: Path, axe: str, scheme: str, width: int) -> None:
    size = {"width": width, "height": 844}
    with visiting(browser, report.as_uri(), color_scheme=scheme, viewport=size, bypass_csp=True) as visit:  # so that axe may run
        visit.page.wait_for_function("[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('svg'))")
        marks = "[...document.querySelectorAll('.plot svg')].map((plot) => plot.querySelectorAll('path, rect, circle, line').length)"
        assert len(visit.page.evaluate(marks)) == 10
        assert min(visit.page.evaluate(marks)) > 5
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        visit.page.evaluate(axe)
        found = visit.page.evaluate("axe.run(document)")["violations"]
        assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found if rule["impact"] in ("serious", "critical")] == []
        assert visit.told == []
        assert visit.asked == [report.as_uri()]


def test_what_a_diagnosis_found_is_told_and_what_shows_nothing_is_said_to(browser: Any, report: Path) -> None:
    with visiting(browser, report.as_uri()) as visit:
        told = visit.page.locator("#diagnostics")
        assert told.locator("h3, figcaption strong").count() == 5
        assert "+22.0 (+17.0 to +27.0) before training" in told.locator("figcaption", has_text="Accuracy with a critique").inner_text()
        row = told.locator("tr", has_text="another problem's critique explains as much")
        assert row.locator("td").all_text_contents() == ["0.0600 ±\u00a00.0500 (shows nothing)", "0.0300 ±\u00a00.0500 (shows nothing)"]
        assert "Answers lose their box" in told.locator(".advisory").inner_text()
        assert told.locator("tr", has_text="tinymath").locator("td").first.inner_text() == "99.0\u00a0→ 87.0"


def test_what_models_wrote_is_read_and_not_obeyed(browser: Any, report: Path) -> None:
    with visiting(browser, f"{report.as_uri()}#records=hostile") as visit:
        texts = visit.page.locator("#records-detail").inner_text()
        assert texts.count(HOSTILE) >= 3
        assert "⟨202E⟩" in texts
        assert "⟨0000⟩" in texts
        assert "1,000,000 characters" in texts
        while visit.count("button.rest"):
            visit.page.locator("button.rest").first.click()
        visit.page.locator("input[name=changes]").uncheck()
        assert visit.count("img, iframe, object, embed, form, #page script") == 0
        assert visit.count("#page svg[onload]") == 0
        assert visit.page.evaluate("[...document.links].filter((link) => !link.getAttribute('href').startsWith('#')).length") == 0
        assert visit.count("[style*=fixed]") == 0
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 1440
        assert visit.told == []
        assert visit.asked == [report.as_uri()]


@pytest.mark.parametrize(
    "attempt",
    [
        "document.body.innerHTML = '<p>'",
        "document.body.setAttribute('onclick', 'alert(1)')",
        "document.createElement('script').text = 'alert(1)'",
    ],
)
def test_no_text_can_become_markup_or_a_script(browser: Any, report: Path, attempt: str) -> None:
    with visiting(browser, report.as_uri()) as visit:
        assert visit.page.evaluate(f"() => {{ try {{ {attempt}; return 'obeyed'; }} catch {{ return 'refused'; }} }}") == "refused"


def test_five_thousand_records_are_searched_and_filtered_at_once(browser: Any, tmp_path: Path) -> None:
    made = MadeRun(tmp_path / "run", num_records=5000, num_words=300)
    made.selected()
    write_report([made.directory], tmp_path / "report.html")
    with visiting(browser, (tmp_path / "report.html").as_uri()) as visit:
        assert visit.count("#records-list .row") < 60  # those in sight
        assert least_ms(visit, "#records-search", "input", ["induction", "problem 4999", "nowhere", "e"]) <= MOST_SEARCH_MS
        assert "5,000 records" in visit.page.locator(".found").first.inner_text()
        assert (
            least_ms(visit, ".filters select:nth-of-type(2)", "change", ["wrong_to_right", "failed", "attempt_truncated"]) <= MOST_SEARCH_MS
        )


def least_ms(visit: Visit, selector: str, event: str, values: list[str]) -> float:
    """The slowest of the values, each at its quickest of three, since the machine has other things to do too."""
    measure = """([selector, event, values]) => {
        const input = document.querySelector(selector);
        const once = (value) => {
            input.value = value;
            const start = performance.now();
            input.dispatchEvent(new Event(event));
            document.body.offsetHeight;
            return performance.now() - start;
        };
        return Math.max(...values.map((value) => Math.min(once(value), once(value), once(value))));
    }"""
    return float(visit.page.evaluate(measure, [selector, event, values]))


def test_keys_go_through_the_records_and_the_address_follows(browser: Any, report: Path) -> None:
    with visiting(browser, report.as_uri()) as visit:
        position = visit.page.locator("#records .position")
        visit.page.keyboard.press("j")
        visit.page.keyboard.press("j")
        visit.page.keyboard.press("k")
        assert position.inner_text() == "2 of 201"
        address = visit.page.url
        visit.page.locator("#records-list").focus()
        visit.page.keyboard.press("End")
        assert position.inner_text() == "201 of 201"
        assert visit.page.locator("#records-list .row[aria-selected=true]").get_attribute("aria-posinset") == "201"
        visit.page.keyboard.press("/")
        visit.page.keyboard.type("HOSTILE")
        assert position.inner_text() == "1 of 1"
    with visiting(browser, address) as visit:
        assert visit.page.locator("#records .position").inner_text() == "2 of 201"


def test_changes_are_marked_on_both_sides_and_formulas_are_set(browser: Any, tmp_path: Path) -> None:
    made = MadeRun(tmp_path / "run", num_records=1)
    made.rows = [
        made.record(0, attempt="I keep $5 and $6, so 2+3=6 and $x^2$", refinement="I keep $5 and $6, so 2+3=5 or so and $x^2$", error=None)
    ]
    made.selected()
    write_report([made.directory], tmp_path / "report.html")
    with visiting(browser, (tmp_path / "report.html").as_uri()) as visit:
        turns = visit.page.locator("#records .turns")
        assert "".join(turns.locator("del").all_inner_texts()).split() == ["6"]
        assert "".join(turns.locator("ins").all_inner_texts()).split() == ["5", "or", "so"]
        assert turns.locator(".formula").count() == 2  # the prices are none
        visit.page.locator("#records input[name=latex]").uncheck()
        assert turns.locator(".formula").count() == 0
        assert "$x^2$" in turns.inner_text()


def test_a_page_of_several_runs_tells_them_apart(browser: Any, report: Path, tmp_path: Path) -> None:
    other = MadeRun(tmp_path / "other", num_records=30).finish()
    write_report([MadeRun(tmp_path / "one", num_records=30).finish(), other], tmp_path / "report.html")
    with visiting(browser, (tmp_path / "report.html").as_uri()) as visit:
        assert visit.page.locator("h1").inner_text() == "Comparison"
        assert visit.page.locator("#records select").first.locator("option").all_inner_texts() == ["Any run", "one (30)", "other (30)"]
        assert visit.page.locator("#training .legend li").all_inner_texts()[:2] == ["one", "other"]
        assert visit.told == []


def test_a_payload_of_another_version_is_refused_in_words(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(render({**build_payload(), "version": 99}), encoding="utf-8")
    context = browser.new_context()
    page = context.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    refusal = page.get_by_text("this one is of version 99")
    refusal.wait_for()
    assert refusal.count() == 1
    assert page.locator("#records").count() == 0
    context.close()


class LiveRun:
    """A server whose payload a test replaces."""

    def __init__(self, made: MadeRun) -> None:
        self.payload = build_payload(made.directory)
        run = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_data = self.path.startswith("/data")
                is_known = is_data and self.path.endswith(str(run.payload["stamp"]))
                body = b"" if is_known else (as_json(run.payload) if is_data else render(run.payload, live_url="data")).encode("utf-8")
                self.send_response(204 if is_known else 200)
                self.send_header("Content-Type", "application/json" if is_data else "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_a_live_page_shows_what_is_new_and_keeps_what_is_being_read(browser: Any, tmp_path: Path) -> None:
    made = MadeRun(tmp_path / "run", num_records=30)
    made.selected()
    live = LiveRun(made)
    with visiting(browser, f"http://127.0.0.1:{live.server.server_port}/") as visit:
        visit.page.locator("#records-search").press_sequentially("problem 1")
        visit.page.keyboard.press("Tab")
        before = visit.page.locator("#records .identity").inner_text()
        more = MadeRun(tmp_path / "more", num_records=40)
        more.selected()
        advisory = {"level": "warning", "title": "Rows fail", "detail": "3 of 40"}
        live.payload = {**build_payload(more.directory), "advisories": [advisory]}
        visit.page.get_by_text("Rows fail").wait_for()
        assert visit.page.locator("#records-search").input_value() == "problem 1"
        assert visit.page.locator("#records .identity").inner_text() == before
        assert visit.page.evaluate("document.activeElement.closest('#records') !== null")
        assert "of 40 records" in visit.page.locator(".found").first.inner_text()
        assert visit.told == []
    live.server.shutdown()
