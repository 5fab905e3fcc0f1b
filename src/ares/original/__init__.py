"""Files of the original project, in and out: predictions, feature arrays and checkpoints."""
