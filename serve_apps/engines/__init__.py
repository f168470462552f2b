"""Engines: token ids in, token ids out. The protocol, one adapter per engine, sampling and grammars."""
