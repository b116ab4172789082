"""Nodes and weights of an ONNX graph; weights go to the data file as they come, one in memory at a
time."""

import numpy as np
from onnx import TensorProto, helper

OPSET = 17
IR_VERSION = 8  # of opset 17; the package's own default is newer than older runtimes read
INLINE_BYTES = 1024  # smaller tensors stay in the graph
PAGE_BYTES = 4096  # runtimes map weights that begin on a page

_ELEMENT_TYPES = {
    np.dtype("<f4"): TensorProto.FLOAT,
    np.dtype("<i8"): TensorProto.INT64,
}


class GraphBuilder:
    """Every method that adds something returns the name of its output."""

    def __init__(self, weights_file, location):
        self._file = weights_file
        self._location = location
        self._nodes = []
        self._tensors = []
        self._constants = {}

    def weight(self, name, array):
        array = np.ascontiguousarray(array)
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        tensor = TensorProto(name=name, dims=array.shape, data_type=_ELEMENT_TYPES[array.dtype])
        if array.nbytes < INLINE_BYTES:
            tensor.raw_data = array.tobytes()
        else:
            self._write(tensor, array)
        self._tensors.append(tensor)
        return name

    def _write(self, tensor, array):
        begin = self._file.tell()
        padding = -begin % PAGE_BYTES
        self._file.write(bytes(padding))
        self._file.write(array.data.cast("B"))
        tensor.data_location = TensorProto.EXTERNAL
        for key, text in (("location", self._location), ("offset", begin + padding),
                          ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(text))

    def integers(self, *numbers):
        """A constant vector; the same one for the same numbers."""
        return self._constant(np.array(numbers, np.int64))

    def integer(self, number):
        return self._constant(np.array(number, np.int64))

    def real(self, number):
        return self._constant(np.array(number, np.float32))

    def _constant(self, array):
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.weight(f"constant_{len(self._constants)}", array)
        return self._constants[key]

    def op(self, kind, *inputs, output=None, **attributes):
        output = output or f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def model(self, inputs, outputs, producer):
        """The finished model; inputs and outputs are (name, element type, shape)."""
        graph = helper.make_graph(self._nodes, "decoder",
                                  [helper.make_tensor_value_info(*value) for value in inputs],
                                  [helper.make_tensor_value_info(*value) for value in outputs],
                                  self._tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)],
                                 ir_version=IR_VERSION, producer_name=producer)
