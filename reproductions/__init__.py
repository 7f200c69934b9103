"""Figures and tables of arXiv:2410.18252, one script each."""
