"""The edge half: media in, head, codec, stream, text out. Imports neither torch nor transformers."""
