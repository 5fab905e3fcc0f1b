"""Benchmarks: their questions from the files people have, and a scorer each, by the rule of the suite that it names."""
