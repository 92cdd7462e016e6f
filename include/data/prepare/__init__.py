"""What rows go through before the gate."""
