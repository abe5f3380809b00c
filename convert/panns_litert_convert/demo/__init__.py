"""The demo model (a narrow Cnn14 trained on synthesised sounds, not a PANN) and the programs that make its data.

It may import the runtime and, of the converter, `training` and the layers below it. Its modules are run one by one.
"""
