"""Operations with gradients by hand: every op returns its output and its backward function.

    output, backward = op(positional, ..., keyword=...)

Positional arguments are differentiable, keyword-only arguments are not. `backward` takes the gradient of each
output, in order, and returns the gradient of each positional argument, in order. It stores nothing and accumulates
nothing: a caller that uses a value twice adds the two gradients. The dtype of an output is that of the inputs.
Tutorials: tutorials/3_backward_by_hand.py, tutorials/7_highways.py.
"""
