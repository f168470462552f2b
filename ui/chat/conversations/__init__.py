"""Conversations as data: a tree of messages, what is sent of it, and files of it."""
