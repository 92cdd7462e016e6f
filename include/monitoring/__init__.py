"""Does the world still look as it did when the champion was trained? Monitors vote, the governor decides."""
