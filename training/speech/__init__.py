"""How the speech model came to be: recordings, voices, strings of digits, training, export. Not needed to use it."""
