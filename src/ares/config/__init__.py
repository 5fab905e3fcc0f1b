"""The typed configuration: its schema, how it is composed, what is impossible in it, and the command line."""
