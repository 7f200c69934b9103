"""``tldr_tiny``: summarise a generated post of a few words, judged by a program."""
