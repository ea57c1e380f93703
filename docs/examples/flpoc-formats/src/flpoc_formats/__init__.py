"""Results of every command as YAML and CSV."""
