"""What the engine's tokens become before a client sees them: text, tool calls, log-probabilities, usage."""
