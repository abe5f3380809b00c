"""The files of this folder as a package, so that an installed wheel finds them too."""
