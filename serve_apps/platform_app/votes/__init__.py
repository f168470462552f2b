"""Votes between answers, and corrected answers: kept, summarized and exported as rows to train on."""
