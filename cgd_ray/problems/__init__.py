"""Problems in: sources and the work list that generation starts from."""
