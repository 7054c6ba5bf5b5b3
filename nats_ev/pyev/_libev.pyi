"""What the compiled module offers. Its contents are cffi objects, which have no static types."""

from typing import Any

ffi: Any
lib: Any
