"""Who answers: what an engine is, vLLM, an API, and what they share."""
