"""How many bicycles are rented in an hour: only data yet."""
