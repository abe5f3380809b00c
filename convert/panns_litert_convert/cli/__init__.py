"""Commands of the converter: models, fetch, convert, verify, demo, finetune, pack, train.

The runtime's command line finds these modules by entry points. They import every room, but torch only when they run.
"""
