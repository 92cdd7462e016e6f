"""Light tasks: the decisions between the steps. Each calls one function of the library."""
