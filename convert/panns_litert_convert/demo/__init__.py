"""The demo model: a narrow Cnn14 taught on synthesised sounds. A demo, not a pretrained PANN."""
