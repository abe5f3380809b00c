"""The demo model (a narrow Cnn14 trained on synthesised sounds, not a PANN) and the programs that make its data.

It may import the runtime, and training and every layer below it in the converter. Its modules are run one by one.
"""
