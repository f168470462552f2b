"""What a build of llama.cpp leaves unused of a CPU."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve_apps.engines.llama_cpp.cpu_features import CPUINFO_FLAGS, unused_features

WHEEL = "CPU : SSE3 = 1 | SSSE3 = 1 | AVX = 1 | AVX2 = 1 | F16C = 1 | LLAMAFILE = 1 | OPENMP = 1 | REPACK = 1 | "
NATIVE = "CPU : AVX = 1 | AVX_VNNI = 1 | AVX2 = 1 | AVX512 = 1 | AVX512_VBMI = 1 | AVX512_VNNI = 1 | AVX512_BF16 = 1 | "
CPUINFO = "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx_vnni avx512_bf16 avx512vbmi avx512_vnni\n\nprocessor\t: 1\n"


def test_a_generic_build_leaves_avx_512_unused() -> None:
    assert unused_features(WHEEL, CPUINFO) == ["AVX_VNNI", "AVX512", "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16"]


def test_a_native_build_uses_everything() -> None:
    assert unused_features(NATIVE, CPUINFO) == []


def test_a_feature_that_is_off_is_not_used() -> None:
    assert unused_features("CPU : AVX2 = 1 | AVX512 = 0 | ", "flags\t\t: avx2 avx512f\n") == ["AVX512"]


def test_a_cpu_without_them_misses_nothing() -> None:
    assert unused_features(WHEEL, "flags\t\t: fpu avx avx2 fma\n") == []


def test_the_first_device_may_be_a_gpu() -> None:
    assert unused_features(f"CUDA : ARCHS = 900 | {NATIVE}", CPUINFO) == []


names = st.sets(st.sampled_from(sorted(CPUINFO_FLAGS)))


@given(names, names, st.sampled_from(("flags\t\t:", "Features\t:")))
def test_unused_is_what_the_cpu_has_without_what_the_build_uses(used: set[str], has: set[str], label: str) -> None:
    build = "CPU : " + "".join(f"{name} = 1 | " for name in sorted({*used, "AVX2", "REPACK"}))
    cpuinfo = f"processor\t: 0\n{label} fp {' '.join(CPUINFO_FLAGS[name] for name in sorted(has))}\n"
    assert set(unused_features(build, cpuinfo)) == has - used
