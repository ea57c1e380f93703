"""Whether a kit will work on this machine, found out before anything is started."""
