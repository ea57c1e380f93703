"""Jobs: the job file, its states, the ledger, archives."""
