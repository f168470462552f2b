"""The engine protocol, one adapter per engine, sampling and grammars."""
