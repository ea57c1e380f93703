"""The server: keeps jobs, sites and models, and runs no code of users."""
