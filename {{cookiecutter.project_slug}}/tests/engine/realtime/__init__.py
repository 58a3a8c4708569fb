"""Real-time: topics, the ways to follow them, brokers, and runs."""
