"""Golden figures of the original networks as a package: `convert` and `verify` check against them."""
