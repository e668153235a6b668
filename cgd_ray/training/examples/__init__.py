"""Selected records -> tokenised examples -> packed rows."""
