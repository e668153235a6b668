"""An OpenAI-compatible endpoint as an engine: asked again, and paid once."""
