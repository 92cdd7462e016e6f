"""Other model servers that the gateway is measured beside, each in a virtual environment of its own."""
