"""Vision-language models of any family that transformers opens, as policies."""
