"""PyTorch audio taggers to proven LiteRT bundles."""
