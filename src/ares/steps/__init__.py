"""One file per step: a function from a configuration and a step context to the files the step produces."""
