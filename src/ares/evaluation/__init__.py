"""Measures of answers and rationales."""
