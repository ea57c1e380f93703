"""``flpoc console``: an interactive shell over one session, with the commands of the command line under short names."""
