"""Images: features extracted from them, and captions."""
