"""Who writes text: a policy in this process."""
