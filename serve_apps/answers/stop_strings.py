"""StopStrings, which ends a text before the first stop string."""

from __future__ import annotations


class StopStrings:
    """Holds text back while it may be the beginning of a stop string, and cuts the text before a complete one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.fed_characters = 0
        self.released_characters = 0
        self.has_stopped = False
        """True once a stop string was complete; the rest of the text is dropped."""

    def feed(self, text: str) -> str:
        """Adds text; returns the text, held or new, that is now certain to be part of the answer."""
        self.fed_characters += len(text)
        if not self._stops:
            self.released_characters += len(text)
            return text
        self._held += text
        matches = [(start + len(stop), start) for stop in self._stops if (start := self._held.find(stop)) >= 0]
        if matches:
            self.has_stopped = True
            # The match that is complete first, so that the result does not depend on how the text was split.
            _, start = min(matches)
            return self._release(start, keep_rest=False)
        return self._release(len(self._held) - self._possible_match_length(), keep_rest=True)

    def flush(self) -> str:
        """Returns the text that is still held back. Call it when the text has ended."""
        return self._release(len(self._held), keep_rest=False)

    def _possible_match_length(self) -> int:
        """Length of the longest end of the held text that is the beginning of a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0

    def _release(self, length: int, *, keep_rest: bool) -> str:
        text = self._held[:length]
        self._held = self._held[length:] if keep_rest else ""
        self.released_characters += len(text)
        return text
