"""Which steps run, in which order and from which files: plan, fingerprints, manifest and runner. No machine learning."""
