"""LightningModules, and the fits built on them."""
