"""ARES."""
