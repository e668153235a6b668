"""Published test sets by name: where each is, how a row of it becomes a question, how it is asked and graded, and how many there are."""
