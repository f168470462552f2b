"""Chats to token ids and back."""
