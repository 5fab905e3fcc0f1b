"""Teachers that are reached over an API: Claude and OpenAI-compatible endpoints, batches, retries, rate limits, prices."""
