"""How pools are laid out in files: one file per layout, each a function from a block to its rows.

`rows(block, skip, bare)` leaves the first `skip` rows out unread, and with `bare` all images. It raises PoolError,
OSError or what its library raises when the file breaks off; a bad row is a `PoolRow` with an error.
"""
