"""Data sets: files or a hub become problems."""
