"""report.html: one page that shows what a run did, from its files alone. Python normalises, JavaScript presents."""
