"""From files to examples, and from examples to batches: everything that happens to data before a model sees it.

`sources` reads files into records (`records`), `documents` the ones made for people, `public` finds known sets; `guess` says which
format the columns have, and `formats` turns records into examples.
"""
