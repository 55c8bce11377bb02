"""How the dual encoder came to be: captions, training, export, and how well it finds. Not needed to use it."""
