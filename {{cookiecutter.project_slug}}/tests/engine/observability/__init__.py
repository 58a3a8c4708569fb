"""What the service says of itself: the log, metrics, traces, and whether it is alive."""
