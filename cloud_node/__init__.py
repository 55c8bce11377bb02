"""The cloud half: features in, tail, fusion, decoder, tokens out."""
