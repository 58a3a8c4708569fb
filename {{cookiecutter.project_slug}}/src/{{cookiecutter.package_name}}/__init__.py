"""A FastAPI service: the modules of its owner, and the engine that they use."""
