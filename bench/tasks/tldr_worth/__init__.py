"""``tldr_worth``: summarise a generated post; what is worth telling is a matter of knowledge."""
