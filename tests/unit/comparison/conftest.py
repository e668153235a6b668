"""What the tests of comparisons share."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="package")
def libraries_are_no_garbage() -> Iterator[None]:
    """statsmodels collects all garbage at each correction of p-values, which takes half a second beside torch."""
    gc.freeze()
    yield
    gc.unfreeze()
