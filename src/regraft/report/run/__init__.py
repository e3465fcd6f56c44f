"""A run's report: what was run, its results and how certain they are, as a page, as Markdown and as plots."""
