"""common_version finds a version that two sets share exactly when there is one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from constraints.version_ranges import common_version

NUMBERS = st.lists(st.integers(0, 3), min_size=1, max_size=3)
VERSIONS = st.builds(
    lambda release, suffix: ".".join(map(str, release)) + suffix, NUMBERS, st.sampled_from(["", "", "rc1", ".post1"])
)
OPERATORS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
SPECIFIERS = st.one_of(
    st.builds(str.__add__, OPERATORS, VERSIONS),
    st.builds(lambda release: "~=" + ".".join(map(str, [*release, 1])), NUMBERS),
    st.builds(lambda sign, release: sign + ".".join(map(str, release)) + ".*", st.sampled_from(["==", "!="]), NUMBERS),
)
SETS = st.builds(lambda parts: SpecifierSet(",".join(parts)), st.lists(SPECIFIERS, max_size=3))


@given(VERSIONS, SETS)
def test_a_pinned_version_is_shared_exactly_when_the_set_contains_it(version: str, affected: SpecifierSet) -> None:
    shared = common_version(SpecifierSet(f"=={version}"), affected)
    assert (shared is not None) == affected.contains(version, prereleases=True)


@given(SETS, SETS, st.lists(VERSIONS, max_size=8))
def test_a_shared_version_is_in_both_sets_and_none_is_missed(
    first: SpecifierSet, second: SpecifierSet, others: list[str]
) -> None:
    shared = common_version(first, second)
    if shared is not None:
        assert first.contains(shared, prereleases=True)
        assert second.contains(shared, prereleases=True)
    else:
        both = [v for v in others if first.contains(v, prereleases=True) and second.contains(v, prereleases=True)]
        assert both == []


@given(SETS, SETS)
def test_the_order_of_the_sets_does_not_matter(first: SpecifierSet, second: SpecifierSet) -> None:
    assert common_version(first, second) == common_version(second, first)


def test_a_range_between_two_versions_is_found() -> None:
    assert common_version(SpecifierSet(">1.4,<1.5"), SpecifierSet(">=1.0")) is not None
    assert common_version(SpecifierSet(">=4.57.3,!=5.0.*,!=5.1.*,!=5.2.*,<5.25"), SpecifierSet(">=5.0,<5.3")) is None
    assert common_version(SpecifierSet("<2"), SpecifierSet(">=2")) is None
    assert common_version(SpecifierSet(""), SpecifierSet("==1.82.7")) == Version("1.82.7")


def test_only_pre_releases_of_the_named_version_may_be_left() -> None:
    assert common_version(SpecifierSet(""), SpecifierSet("!=0,<=0")) == Version("0.dev0")
    assert common_version(SpecifierSet(">=1.4rc1"), SpecifierSet("<=1.4,!=1.4,!=1.4rc1")) is not None
    assert common_version(SpecifierSet(">=1.4"), SpecifierSet("<=1.4,!=1.4")) is None
