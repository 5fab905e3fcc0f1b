"""Runs a device step on several ranks: torch's elastic agent on this machine, or on each node of an allocation."""
