"""A node on which the run directory is another one is found before anything is written there."""

from pathlib import Path

import pytest

from cgd_ray.cluster.storage import check_shared, sees, written_probe


def test_nodes_that_see_the_directory_are_no_reason_to_refuse_and_nothing_is_left(tmp_path: Path, ray_local: None) -> None:
    check_shared(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, "of another run"])
def test_a_node_without_the_file_or_with_another_one_does_not_see_it(content: str | None, tmp_path: Path) -> None:
    with written_probe(tmp_path) as probe:
        assert sees(probe)
        elsewhere = tmp_path / "elsewhere" / probe.name
        if content is not None:
            elsewhere.parent.mkdir()
            elsewhere.write_text(content)
        assert not sees(elsewhere)
