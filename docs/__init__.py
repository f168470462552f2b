"""The documentation: pages in Markdown, and the tools that generate and check the site."""
