"""Finds tensors that hold NaN or infinite values, or only zeros. Reads raw bytes, so it needs no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_FLOATS = {
    "BF16": ("<u2", 0x7FFF, 0x7F80),
    "F16": ("<u2", 0x7FFF, 0x7C00),
    "F32": ("<u4", 0x7FFF_FFFF, 0x7F80_0000),
    "F64": ("<u8", 0x7FFF_FFFF_FFFF_FFFF, 0x7FF0_0000_0000_0000),
}
"""dtype -> its integer of equal size, the mask that removes the sign, and infinity. Larger magnitudes are NaN."""

_BYTES = {"_scales": 0xFF, "_blocks": 0x77}
"""MXFP4, by the end of the name: the mask for the bits that are not a sign. FP4 has no NaN; the scale 255 is NaN
(OCP Microscaling Formats, E8M0)."""

_NEVER_ZERO = re.compile(r"(norm|embed_tokens|lm_head|[qkvo]_proj)\.weight$|experts\.\w+_proj(_blocks)?$")
"""Weights without which a model cannot compute. Biases, sinks and routers of zeros are valid."""


@dataclass(slots=True)
class _Seen:
    largest: int = 0
    """Largest magnitude, as the integer of its bits without the sign."""
    has_infinity: bool = False


class TensorValues:
    """Collects what is wrong with the values of tensors, from their bytes in order."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], _Seen] = {}

    def add(self, name: str, dtype: str, chunk: bytes) -> None:
        """Looks at the next bytes of a tensor: whole elements, in safetensors' byte order."""
        integer, mask, infinity = _FLOATS.get(dtype, ("u1", _BYTES.get(name[-7:], 0), None))
        if not mask:
            return
        import numpy as np

        seen = self._seen.setdefault((name, dtype), _Seen())
        magnitudes = np.frombuffer(chunk, integer) & np.dtype(integer).type(mask)
        largest = int(magnitudes.max(initial=0))
        seen.largest = max(seen.largest, largest)
        if infinity is not None and largest >= infinity:
            seen.has_infinity |= bool((magnitudes == infinity).any())

    def nonzero(self) -> set[str]:
        """The names of the tensors that were added and hold a value other than zero."""
        return {name for (name, _), seen in self._seen.items() if seen.largest}

    def problems(self) -> Iterator[str]:
        """Yields one message for each damaged tensor that was added."""
        for (name, dtype), seen in self._seen.items():
            infinity = _FLOATS[dtype][2] if dtype in _FLOATS else 0xFE if name.endswith("_scales") else 0xFF
            kinds = [
                *(["NaN"] if seen.largest > infinity else []),
                *(["infinite"] if seen.has_infinity else []),
            ]
            if kinds:
                yield (
                    f"{name} holds {' and '.join(kinds)} values, so the model would compute nothing but NaN. Copy the "
                    "weights again, or export an earlier checkpoint of the run."
                )
            elif seen.largest == 0 and _NEVER_ZERO.search(name):
                yield (
                    f"{name} holds only zeros, as after an interrupted copy, so the model would answer with noise. "
                    "Copy or export the weights again."
                )
