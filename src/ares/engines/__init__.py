"""Who writes text: the policy in this process, or servers."""
