"""The calculus: every op returns its output and its backward.

    output, backward = op(positional, ..., keyword=...)

Positional arguments are differentiable, keyword-only ones are not. `backward` takes the gradient of each
output, in order, and returns the gradient of each positional argument, in order; it stores nothing and adds
up nothing. Whoever uses a value twice adds the two gradients. Ops follow the dtype of their inputs.
"""
