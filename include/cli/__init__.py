"""The `windtunnel` command: for the person at the keyboard and the person on call."""
