"""Decide: prompting, retrieval, tuning, or both? Every way is carried out and measured on the same held-out rows.

Enters: a run file, perhaps with documents. Leaves: decision.json and decision.html in the run directory. `protocol` fixes who sees which rows,
`arms` says which ways there are, `carry_out` measures them, `recommendation` chooses, `report` shows.
"""
