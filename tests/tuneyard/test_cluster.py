"""What a cluster lacks is said with both numbers; whether that is an error, the config decides."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tuneyard.cluster import lacking_resources

AMOUNTS = st.dictionaries(st.sampled_from(["CPU", "GPU", "TPU"]), st.integers(1, 64).map(float))


@given(AMOUNTS, AMOUNTS)
def test_what_is_lacking_is_what_is_needed_and_not_there(needed: dict[str, float], have: dict[str, float]) -> None:
    lacking = lacking_resources(needed, have)
    for name, amount in needed.items():
        said = f"{name}: {amount:g} needed, {have.get(name, 0):g} there" in lacking
        assert said == (have.get(name, 0) < amount)
    assert bool(lacking) == any(have.get(name, 0) < amount for name, amount in needed.items())
