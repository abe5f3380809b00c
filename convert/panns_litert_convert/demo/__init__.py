"""The demo model (a narrow Cnn14 trained on synthesised sounds, not a PANN), and the synthesis of its sounds, clips and
data sets. It may import the runtime, and training and every layer below it in the converter."""
