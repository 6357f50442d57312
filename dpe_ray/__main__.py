"""`python -m dpe_ray` is the `dpe-ray` command."""

from dpe_ray.cli import main

if __name__ == "__main__":
    main()
