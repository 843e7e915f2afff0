"""Trust: judges the bytes it is handed, by signatures and keys; opens what is encrypted. It never fetches anything."""
