"""The fields of one inference engine each, under the engine's own names."""
