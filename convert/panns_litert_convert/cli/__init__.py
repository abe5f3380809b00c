"""The converter's commands: fetch, convert, verify, demo, finetune, pack and train.

The runtime's command line finds these modules by entry points. They may import every package, and import torch only
inside the function that runs a command.
"""
