"""The version of the package. The build and CONNECT read it here, so that no other file repeats it."""

__version__ = "0.2.0"
