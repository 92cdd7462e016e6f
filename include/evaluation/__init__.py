"""Is the candidate good enough? Metrics with intervals, paired comparisons, and gates that answer in three values."""
