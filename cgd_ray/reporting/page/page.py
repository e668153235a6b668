"""Makes report.html: one file that needs no network, in which what models wrote can do nothing but be read.

The browser is told so by a policy: only scripts whose hashes it names are run, nothing is loaded, nothing is sent, and no string becomes
markup (Trusted Types). The payload lies compressed in an element that no browser runs. assets/ holds the page's own files and, unmodified,
the libraries it is made with.
How to use: `write_report([run], run.root / "report.html")`; `render(build_payload(run), live_url="/payload")` for a page that polls.
"""

import gzip
import json
import re
import string
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

from cgd_ray.data.rundir import RunDir, atomic_write
from cgd_ray.reporting.page.payload import build_payload

ASSETS = Path(__file__).parent / "assets"
LIBRARIES = ("d3.min.js", "plot.umd.min.js", "diff.min.js", "katex/katex.min.js")
"""Scripts in assets/libraries/, in the order in which they need each other."""
APP = ("dom", "words", "charts", "figures", "curves", "overview", "diagnosis", "text", "list", "browser", "records", "answers", "main")
"""Files of assets/app/ in an order in which each comes after those that it imports."""
POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:; font-src data:; connect-src {connect}; "
    "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
PAGE = string.Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>$title</title>
<link rel="icon" href="data:,">
<style>$style</style>
</head>
<body>
<a class="skip" href="#content">Skip to content</a>
<div id="page"><main id="content" tabindex="-1"><h1>$title</h1><p>The page is being unpacked. It needs JavaScript.</p></main></div>
<script type="application/octet-stream" id="payload" data-live="$live">$payload</script>
$scripts
</body>
</html>
""")
_IMPORT = re.compile(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)
_WOFF2 = re.compile(r"src:url\(fonts/([\w-]+\.woff2)\)[^}]*")


def write_report(run_dirs: Sequence[RunDir], output: Path, comparison: Path | None = None) -> None:
    """Publish a page of one or more runs; `comparison` is a file with the differences between them.

    Raises ValueError for records of another version or a file that cannot be read, OSError where `output` cannot be written.
    """
    page = render(build_payload(*run_dirs, comparison=comparison))
    with atomic_write(output) as temporary:
        temporary.write_text(page, encoding="utf-8")


def refresh_report(run: RunDir, say: Callable[[str], None]) -> None:
    """Write a run's own page anew; one that cannot be made is told in a line and ends no run."""
    try:
        write_report([run], run.report)
    except (ValueError, OSError) as error:
        say(f"warning: {run.report} could not be written ({error}); `cgd report {run.root}` tries again")


def render(payload: Mapping[str, Any], live_url: str | None = None) -> str:
    """The page of a payload. With `live_url` it asks that address of its own origin every two seconds for a newer one.

    It asks with `?since=` and the `stamp` of the payload it has; the answer is a payload as JSON, or 204 where there is no newer one.
    """
    scripts = _scripts()
    hashes = " ".join(f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts)
    return PAGE.substitute(
        policy=POLICY.format(scripts=hashes, connect="'none'" if live_url is None else "'self'"),
        title=escape(str(payload["title"])),
        style=_style(),
        live=escape(live_url or ""),
        payload=pack(payload),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def as_json(payload: Mapping[str, Any]) -> str:
    """In ASCII, so that lone surrogates of a text pass as the escapes that JSON has for them."""
    return json.dumps(payload, separators=(",", ":"), allow_nan=False)


def pack(payload: Mapping[str, Any]) -> str:
    """gzip in base64: no character of it means anything in HTML."""
    return b64encode(gzip.compress(as_json(payload).encode("ascii"), compresslevel=6, mtime=0)).decode("ascii")


@cache
def _scripts() -> tuple[str, ...]:
    """The libraries and the page's own script. Each must end where its element does."""
    libraries = [(ASSETS / "libraries" / name).read_text(encoding="utf-8") for name in LIBRARIES]
    scripts = (*libraries, _joined_app())
    assert not any("</script" in script.lower() or "<!--" in script for script in scripts), "a script would end its own element"
    return scripts


def _joined_app() -> str:
    """The modules of assets/app/ as one script in a scope of its own: imports and the word export fall away, so names must be unique."""
    modules = [(ASSETS / "app" / f"{name}.js").read_text(encoding="utf-8") for name in APP]
    joined = "\n".join(_EXPORT.sub("", _IMPORT.sub("", module)) for module in modules)
    return f'(() => {{\n"use strict";\n{joined}}})();\n'


@cache
def _style() -> str:
    """The page's style and KaTeX's, whose fonts become data: addresses."""
    katex = (ASSETS / "libraries" / "katex" / "katex.min.css").read_text(encoding="utf-8")
    return _WOFF2.sub(_font, katex) + (ASSETS / "style.css").read_text(encoding="utf-8")


def _font(found: re.Match[str]) -> str:
    content = (ASSETS / "libraries" / "katex" / "fonts" / found[1]).read_bytes()
    return f'src:url(data:font/woff2;base64,{b64encode(content).decode("ascii")}) format("woff2")'
