"""The converter's commands: models, fetch, convert, verify, demo, finetune, pack and train, which the runtime's command
line finds by entry points. It may import every package of the runtime and of the converter; the packages that need
torch are imported inside the function that runs the command."""
