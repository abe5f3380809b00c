"""Fine-tuning: a network of the zoo taught the user's classes."""
