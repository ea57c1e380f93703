"""What a user expects of every command, as data, and what flpoc is compared with it by."""
