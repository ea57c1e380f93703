"""Docker containers as a place to run servers, sites and jobs."""
