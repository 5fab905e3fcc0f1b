"""Which steps run, in which order and on which files: plan, fingerprints, manifest and runner. No machine learning."""
