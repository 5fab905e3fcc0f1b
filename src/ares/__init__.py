"""ARES: better chains of thought for multimodal question answering, from an AI Teacher's sentence-level feedback."""

__version__ = "0.1.0"
