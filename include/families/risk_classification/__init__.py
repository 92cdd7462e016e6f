"""What kind of accident a report of an accident at work tells of: only data yet."""
