"""Models behind the OpenAI interface: OpenAI, Azure, DeepSeek, Ollama and every server that speaks it."""
