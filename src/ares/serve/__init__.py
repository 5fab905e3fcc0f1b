"""Asks a trained model: from Python (`ares.load`), on the command line (`ares ask`), and on a page in the browser."""
