"""The base models that jobs.build_base_model builds, by name."""

BASE_NAMES = ("smol-oss-135m", "tiny-oss-random")
