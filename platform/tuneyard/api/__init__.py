"""Types of the OpenAI API on the wire, API keys, the administrators' key."""
