"""The names of the base models that jobs.build_base_model builds."""

BASE_NAMES = ("smol-oss-135m", "tiny-oss-random")
