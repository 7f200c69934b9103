"""``chat_worth``: follow an instruction about a few statements, in as many words as it takes."""
