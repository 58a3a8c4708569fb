"""Plain FastAPI in a generated service: routes as in its documentation."""
