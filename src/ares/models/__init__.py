"""Language models, their value heads and adapters; everything else sees them through a policy."""
