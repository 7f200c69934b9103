"""The page report.html, and what REPORT.md and the console share with it."""
