"""A filter that bounds how much an update may change the model."""
