"""A GGUF file: checked metadata, and tensors as float32."""

import gguf
import numpy as np

from turboquant_tools.errors import ToolError

_REQUIRED = object()


class GgufFile:
    """Reads lazily: tensors stay on the disk until weight() asks for one."""

    def __init__(self, path):
        self.path = path
        if not path.is_file():
            raise ToolError(f"{path} is not a file")
        try:
            reader = gguf.GGUFReader(path)
        except Exception as error:  # the reader fails in any way that bytes can lead it to
            raise ToolError(f"{path} is not a complete GGUF file: "
                            f"{type(error).__name__}: {error}") from error
        self._fields = reader.fields
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.architecture = self.text("general.architecture")

    # Metadata. "{}" in a key stands for the architecture.

    def _contents(self, key, default):
        key = key.replace("{}", self.architecture) if "{}" in key else key
        field = self._fields.get(key)
        if field is not None:
            try:
                return key, field.contents()
            except UnicodeDecodeError as error:
                raise ToolError(f"{self.path}: metadata '{key}' is not UTF-8: {error}") from None
        if default is _REQUIRED:
            raise ToolError(f"{self.path}: metadata '{key}' is missing")
        return key, default

    def _checked(self, key, default, kinds, kind_name):
        key, contents = self._contents(key, default)
        if contents is default or (isinstance(contents, kinds) and
                                   (bool in kinds or not isinstance(contents, bool))):
            return contents
        raise ToolError(f"{self.path}: metadata '{key}' is {contents!r:.60}, not {kind_name}")

    def text(self, key, default=_REQUIRED):
        return self._checked(key, default, (str,), "a text")

    def flag(self, key, default=_REQUIRED):
        return self._checked(key, default, (bool,), "true or false")

    def real(self, key, default=_REQUIRED):
        number = self._checked(key, default, (int, float), "a number")
        if number is not default and not (np.isfinite(number) and number > 0):
            raise ToolError(f"{self.path}: metadata '{key}' is {number}, "
                            f"not a finite number above 0")
        return number if number is default else float(number)

    def integer(self, key, default=_REQUIRED, least=1):
        number = self._checked(key, default, (int,), "a whole number")
        if number is not default and number < least:
            raise ToolError(f"{self.path}: metadata '{key}' is {number}, must be {least} or more")
        return number

    def list_of(self, key, kind, default=_REQUIRED):
        contents = self._checked(key, default, (list,), "a list")
        if contents is not default and not all(isinstance(entry, kind) for entry in contents):
            raise ToolError(f"{self.path}: metadata '{key}' has entries "
                            f"that are no {kind.__name__}")
        return contents

    # Tensors.

    def __contains__(self, name):
        return name in self._tensors

    def tensor_names(self):
        return self._tensors.keys()

    def shape(self, name):
        """Row-major, [out, in] of a linear map; GGUF itself counts the other way."""
        if name not in self._tensors:
            raise ToolError(f"{self.path}: tensor '{name}' is missing")
        return tuple(int(size) for size in reversed(self._tensors[name].shape))

    def weight(self, name):
        """Dequantized, float32."""
        tensor, shape = self._tensors[name], self.shape(name)
        try:
            numbers = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError:
            raise ToolError(f"{self.path}: tensor '{name}' is of type {tensor.tensor_type.name}, "
                            f"which the package gguf cannot dequantize") from None
        numbers = np.ascontiguousarray(numbers.reshape(shape), np.float32)
        if not np.all(np.isfinite(numbers)):
            raise ToolError(f"{self.path}: tensor '{name}' has {np.sum(~np.isfinite(numbers))} "
                            f"numbers that are not finite")
        return numbers
