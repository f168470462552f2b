"""Whether two sets of version specifiers have a version in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version


def common_version(first: SpecifierSet, second: SpecifierSet) -> Version | None:
    """Returns the smallest known version in both sets, pre-releases included; None if they have none in common.

    Tries the versions that the specifiers name, and those just before and after each. That is enough for the operators
    ==, !=, <, <=, >, >= and ~=, whose sets begin and end at the versions named.
    """
    candidates = sorted(set(_candidates([*first, *second])))
    return next((v for v in candidates if first.contains(v, True) and second.contains(v, True)), None)


def _candidates(specifiers: Iterable[object]) -> Iterator[Version]:
    yield Version("0")
    for specifier in specifiers:
        named = getattr(specifier, "version", "").removesuffix(".*")
        try:
            version = Version(named)
        except InvalidVersion:
            continue
        yield version
        yield Version(f"{version.public}.post1") if version.post is None else version
        release = [*version.release]
        # Versions just after: 1.4.0.1 is allowed by >1.4; 1.5 is the first beyond ==1.4.*.
        yield Version(".".join(map(str, [*release, 0, 1])))
        yield Version(".".join(map(str, [*release[:-1], release[-1] + 1])))
        yield Version(".".join(map(str, [*release[:-1], release[-1] + 1, 1])))
        # Just before: its pre-releases, which <=1.4 and !=1.4 leave, and the last version of the preceding release.
        yield from (Version(f"{version.base_version}.dev0"), Version(f"{version.base_version}rc999999"))
        for cut in range(len(release), 0, -1):
            if release[cut - 1]:
                yield Version(".".join(map(str, [*release[: cut - 1], release[cut - 1] - 1, 999_999])))
                break
