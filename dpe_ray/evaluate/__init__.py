"""Did it help, did it hurt: two policies on the same held-out items."""
