"""Right or wrong: an answer against its reference, by rules, by algebra, by choice or by instructions."""
