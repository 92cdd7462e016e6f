"""Which clients of a bank will not pay next month: only data yet."""
