"""One step on several devices: a group of processes, which ranks it has, and how it ends."""
