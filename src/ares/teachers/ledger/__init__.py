"""The ledger: every request to a Teacher and its reply, so that nothing is paid for twice."""
