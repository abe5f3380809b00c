"""Converter: turns PyTorch audio taggers into LiteRT bundles with proven parity, and trains and fine-tunes networks.

It may import the runtime. The runtime never imports it. The layers of its own modules are in pyproject.toml.
"""
