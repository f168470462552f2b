"""Votes of the Compare page: where they are kept, in which form, and what they say."""
