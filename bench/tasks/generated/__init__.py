"""What tasks of a generated world share."""
