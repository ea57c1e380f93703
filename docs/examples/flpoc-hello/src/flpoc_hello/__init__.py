"""Processes of this machine, each with a supervisor that holds a lock."""
