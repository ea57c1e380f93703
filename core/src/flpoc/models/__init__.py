"""Models: what travels between server and sites."""
