"""`windtunnel demo`: the whole life of one model on one machine, in minutes."""
