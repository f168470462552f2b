"""The Jinja chat template that renders what HarmonyCodec renders, for programs other than Tuneyard."""
