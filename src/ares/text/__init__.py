"""Prompts, sentences and tokenizers."""
