"""`retrace reproduce`: makes a run again from what it recorded, and says whether the same came out.

`command` begins and ends it, `steps` has what is done between: `record` reads what the run was made from, `workspace`
puts code and parameters into a scratch clone, `fetch` brings data there by hash, `chain` says which stages come before,
`rerun` runs them for real, `compare` (with `numbers` and `raw`) holds what came out against what was recorded,
`verdict` judges, `seeds` asks other seeds.
"""
