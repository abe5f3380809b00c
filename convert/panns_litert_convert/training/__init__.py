"""Training: fine-tuning a network on the user's classes, and packing clips and training on them from scratch.

It may import the runtime and, of the converter, `assets` and the layers below it. Its modules are imported one by one,
because they need different extras: `pack`, `scratch` and `waveforms` need `train`.
"""
