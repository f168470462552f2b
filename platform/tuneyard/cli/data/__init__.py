"""`tuneyard data`: checks, statistics and previews of chat files; parity of prompts."""
