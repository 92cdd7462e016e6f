"""How many bicycles are rented in an hour, told a day before: with scikit-learn, or with Keras by a profile."""
