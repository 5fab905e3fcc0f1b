"""The texts sent to a Teacher."""
