"""Measurements inside the stacks of a network, while it trains and when it is done.

stacks     the stacks of a network, and hooks on them
activity   norms of what units return, how far gates are open, which frames an attention reads
weights    learned weights of skips, and what each unit of a dense stack reads of earlier ones
gradients  norms of gradients by depth, along the skip and through the transform
lesions    rise of the loss without a unit
pictures   figures of all of these

A place is a CBHG by its name in the network (`encoder`, `postnet`); its units are counted from 0 at
the stack's input. Each page names the paper that its measure comes from.
"""
