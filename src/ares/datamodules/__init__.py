"""What a fit reads: Lightning data modules over problems and rollouts."""
