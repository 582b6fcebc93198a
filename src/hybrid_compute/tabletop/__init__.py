"""The token actions: a table with cards, zones and players, for an Engine."""
