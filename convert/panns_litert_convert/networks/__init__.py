"""Networks: the architectures of the zoo in PyTorch, written for export, with the state-dict keys of the published
checkpoints. They import the runtime and, of the converter, only frontend.
"""
