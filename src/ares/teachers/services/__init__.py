"""Teachers behind an API: Claude and OpenAI-compatible endpoints, batches, retries, rate limits and prices."""
