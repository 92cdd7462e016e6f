"""Training: the final fit over one or more processes, and the hyperparameter sweep."""
