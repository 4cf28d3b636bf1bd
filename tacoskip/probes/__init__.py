"""Measurements inside the stacks of a network, while it trains and when it is done.

stacks       the stacks of a network, hooks on them, the means of what hooks see
activations  norms of what units return
gates        how far gates are open, and learned weights of skips
attention    which frames an attention reads, and how far away they are
gradients    norms of gradients by depth, along the skip and through the transform
reuse        what each unit of a dense stack reads of earlier ones
lesions      rise of the loss without a unit
paths        lengths of the paths that gradients take
pictures     figures of all of these

A place is a CBHG by its name in the network (`encoder`, `postnet`); its units are counted from 0 at
the stack's input. Each page names the paper that its measure comes from.
"""
