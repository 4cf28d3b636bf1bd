"""Measurements inside the stacks of a network, while it trains and when it is done.

A place is a CBHG by its name in the network (`encoder`, `postnet`); its units are counted from 0 at
the stack's input. Each page names the paper that its measure comes from.
"""
