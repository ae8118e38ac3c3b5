"""An LSTM of another framework as params of issref, and back: PyTorch, Flax, Keras, ONNX, the released TF 1 code.

Every module has the same few names and says in a table (`dialect.Dialect`) how its framework spells a layer:

    to_reference(arrays), from_reference(params)     plain NumPy dictionaries of one LSTM stack, of any widths
    axes(layer, below), layout(widths)               the same spaces and ISS groups along the framework's arrays
    arrays(theirs), build(arrays)                    what the framework itself holds; only these import it
    read(path), write(path, arrays)                  a file of it

A name that a module lacks has no meaning there. Two biases come in as their sum and go out as the sum and zeros.
"""
