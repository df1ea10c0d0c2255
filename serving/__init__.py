"""The scoring server: a feature contract and a model bundle in, ``POST /predict`` out."""
