"""Only what pyproject.toml cannot say: which CFFI modules to build."""

from setuptools import setup

setup(cffi_modules=["_parser_build.py:ffibuilder", "_libev_build.py:ffibuilder"])
