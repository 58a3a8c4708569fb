"""A service of FastAPI: the owner's modules, and the engine below them."""
