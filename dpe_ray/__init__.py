"""dpe_ray: find where a vision-language model is weak, make the data it lacks, train it, measure, go round again."""

__version__ = "0.1.0"
