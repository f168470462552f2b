"""Types of the OpenAI API on the wire, one file per route or per concept that routes share."""
