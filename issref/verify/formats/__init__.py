"""Convert LSTMs between issref and other frameworks: PyTorch, Flax, Keras, ONNX, the released TF 1 code.

Every module defines a table (`dialect.Dialect`) of the framework's arrays and the same few functions:

    to_reference(arrays), from_reference(params)     convert NumPy dictionaries of one LSTM stack, of any widths
    axes(layer, inputs), layout(widths)              describe the framework's arrays as spaces and ISS groups
    arrays(model), build(arrays)                     convert objects of the framework; only these import it
    read(path), write(path, arrays)                  read and write a file

A module lacks a function that has no meaning for its framework. Two biases are added up; in the other direction,
the second is zero.
"""
