"""The only place in dpe_ray that imports ray."""
