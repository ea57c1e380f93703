"""An aggregator that a minority of sites cannot move far."""
