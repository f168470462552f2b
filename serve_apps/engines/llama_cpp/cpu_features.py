"""Instructions of this CPU that a build of llama.cpp does not use. Plain text on both sides."""

from __future__ import annotations

from pathlib import Path

CPUINFO_FLAGS = {
    "AVX_VNNI": "avx_vnni",
    "AVX512": "avx512f",
    "AVX512_VBMI": "avx512vbmi",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AMX_INT8": "amx_int8",
    "DOTPROD": "asimddp",
    "MATMUL_INT8": "i8mm",
    "SVE": "sve",
}
"""llama.cpp's names of instructions that a generic build leaves out, and Linux' names in /proc/cpuinfo."""


def unused_features(build: str, cpuinfo: str) -> list[str]:
    """llama.cpp's names of the CPU's instructions that the build does not use.

    `build` is llama.cpp's system info, as "CPU : AVX2 = 1 | REPACK = 1 | "; `cpuinfo` is the text of /proc/cpuinfo.
    """
    entries = [entry.split(":")[-1].split() for entry in build.split("|")]
    used = {entry[0] for entry in entries if entry[1:] == ["=", "1"]}
    flags = set(next((line for line in cpuinfo.splitlines() if line.startswith(("flags", "Features"))), "").split())
    return [name for name, flag in CPUINFO_FLAGS.items() if flag in flags and name not in used]


def read_cpuinfo() -> str:
    """The text of /proc/cpuinfo; empty where there is none."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.is_file() else ""
