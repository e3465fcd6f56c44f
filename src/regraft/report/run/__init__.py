"""A run's report: what was run, what it found and how sure that is, as a page, as Markdown and as pictures."""
