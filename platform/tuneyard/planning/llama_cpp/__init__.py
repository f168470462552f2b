"""Main memory and disk of a llama.cpp replica on CPUs."""
