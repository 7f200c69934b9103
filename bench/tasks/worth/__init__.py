"""What tasks share in whose world statements differ in what they are worth."""
