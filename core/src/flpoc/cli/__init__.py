"""The command line: one group of commands a file, thin over the Python API."""
