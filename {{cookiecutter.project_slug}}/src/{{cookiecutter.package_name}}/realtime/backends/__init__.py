"""Where the order of events comes from: one module per broker."""
