"""KV memories as files: ``memory.json`` and safetensors, verified while they stream in."""
