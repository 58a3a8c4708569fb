"""Two replicas of a service on one bucket."""
