"""Alerts and the dashboard ask for metrics that there are, and each alert says what to do.

tests/cluster/test_monitoring_for_real.py has promtool's verdict, and a Prometheus that answers.
"""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import yaml

import cgd_ray

MONITORING = Path(cgd_ray.__file__).parents[1] / "cluster" / "monitoring"
NAME = re.compile(r"\bray_[a-z_]+\b")
NO_UNIT_OF_ITS_OWN = {"ray_object_store_memory"}
"""Exported by Ray's C++ part."""


def queries() -> list[str]:
    """Of the dashboard."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]


def rules() -> list[dict[str, dict[str, str]]]:
    found: list[dict[str, dict[str, str]]] = [
        rule for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
    ]
    return found


def exported() -> set[str]:
    """What this project and Ray's agent on each node give out."""
    ray = find_spec("ray")
    assert ray is not None
    assert ray.submodule_search_locations is not None
    agent = Path(ray.submodule_search_locations[0]) / "dashboard" / "modules" / "reporter" / "reporter_agent.py"
    ours = {
        f"ray_{name}{'_total' if kind == 'RayCounter' else ''}"
        for file in Path(cgd_ray.__file__).parent.rglob("*.py")
        for kind, name in re.findall(r'(RayCounter|Gauge)?\(\s*"(cgd_[a-z_]+)"', file.read_text())
    }
    return ours | {f"ray_{name}" for name in re.findall(r'"(node_[a-z_]+)": Gauge', agent.read_text())} | NO_UNIT_OF_ITS_OWN


def test_what_is_asked_for_is_exported() -> None:
    asked = {name for query in [*queries(), *(str(rule["expr"]) for rule in rules())] for name in NAME.findall(query)}
    assert len(asked) > 20
    assert asked <= exported(), asked - exported()


def test_each_alert_says_what_it_is_and_what_to_do() -> None:
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "remedy"}, rule
        assert rule["labels"]["severity"] in ("info", "warning", "critical")


def test_the_panels_do_not_lie_over_each_other() -> None:
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    places = [
        (p["gridPos"]["x"] + dx, p["gridPos"]["y"] + dy)
        for p in panels
        for dx in range(p["gridPos"]["w"])
        for dy in range(p["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert len({panel["id"] for panel in panels}) == len(panels)
