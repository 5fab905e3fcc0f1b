"""Teachers that need no network."""
