"""Cells have names that stay, and share what is the same for all of them."""

from pathlib import Path

from cgd_ray.comparison.cells import Cell, Place, cells_of, link_shared
from cgd_ray.config.comparison import base_config
from tests.unit.comparison.standins import make_comparison


def test_a_name_says_all_in_which_a_cell_differs() -> None:
    cell = Cell(arm="cgd-shuffled", seed=3, learning_rate=2.5e-6, verdict_mix={"wrong": 0.75, "right": 0.25})
    assert cell.name == "cgd-shuffled-seed3-lr2.5e-6-right25-wrong75"
    assert Cell(arm="cgd", seed=0, learning_rate=1e-4, verdict_mix=None).name == "cgd-seed0-lr1e-4"
    assert Cell(arm="cgd", seed=0, learning_rate=3.3333e-4, verdict_mix=None).name == "cgd-seed0-lr3.3333e-4"


def test_everything_is_combined_seed_after_seed(tmp_path: Path) -> None:
    comparison = make_comparison(tmp_path, learning_rates=[1e-4, 1e-5], verdict_mixes=[None, {"right": 0.5, "wrong": 0.5}])
    cells = cells_of(comparison, base_config(comparison))
    assert len({cell.name for cell in cells}) == len(cells) == 2 * 2 * 2 * 2
    assert [cell.seed for cell in cells] == [0] * 8 + [1] * 8


def test_links_to_what_is_shared_outlive_a_move_of_the_directory(tmp_path: Path) -> None:
    place, cell = Place(tmp_path / "here"), Cell(arm="cgd", seed=0, learning_rate=1e-4, verdict_mix=None)
    place.shared.selected.mkdir(parents=True)
    (place.shared.selected / "manifest.json").write_text("{}")
    for _ in range(2):
        link_shared(place, cell)
    place.root.rename(tmp_path / "there")
    assert (Place(tmp_path / "there").run(cell).selected / "manifest.json").read_text() == "{}"
