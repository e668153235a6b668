"""Which records a training takes, which arm each gets, whose critique it shows: by ids and verdicts, without their texts."""
