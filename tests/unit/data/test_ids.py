"""Ids are found as in a dictionary, the first one where there are several."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from cgd_ray.data.ids import ABSENT, Ids

NAMES = st.lists(st.text("abé0", min_size=1, max_size=4), max_size=12)


@given(NAMES, NAMES)
def test_each_id_has_its_first_place_or_none(known: list[str], asked: list[str]) -> None:
    first = {name: place for place, name in reversed(list(enumerate(known)))}
    ids = Ids(pa.chunked_array([pa.array(known[:5], pa.string()), pa.array(known[5:], pa.string())]))
    names = pa.array(asked, pa.string())
    assert ids.find(names).tolist() == [first.get(name, ABSENT) for name in asked]
    assert ids.lacks(names).to_pylist() == [name not in first for name in asked]
