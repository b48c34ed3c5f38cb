"""The mathematics, on plain arrays: each operation's forward and backward beside each other, one idea a file.

`f_forward(*arrays, **options)` returns (result, saved); `f_backward(dy, saved)` returns a tuple with one gradient an
input. Where an input may be broadcast, its gradient may come in the broadcast shape: the engine sums it. Where `needs`
is taken, it says for each input whether anyone wants its gradient; None is returned for the others.
"""
