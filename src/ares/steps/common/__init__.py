"""What several steps need: their contract with the pipeline, inputs, prompts, fitting, asking a Teacher."""
