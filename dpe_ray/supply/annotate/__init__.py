"""The agents that turn an unlabelled image into a checked sample: planner, question writer, validator, solver."""
